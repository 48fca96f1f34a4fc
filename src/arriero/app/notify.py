"""Tell systemd how the service is doing (sd_notify(3)); nothing happens outside systemd."""

import os
import socket


def notify(state: str) -> None:
    """Send `state`, such as `READY=1`, to `$NOTIFY_SOCKET` if there is one.

    A supervisor that does not listen must not stop the service, so a failure to send is silent:
    systemd itself then reports the start-up timeout.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return
