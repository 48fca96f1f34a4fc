"""Talk to systemd (sd_notify(3)); nothing happens outside it."""

import asyncio
import os
import select
import socket
from collections.abc import Sequence

BARRIER_TIMEOUT_MS = 2000


def notify(state: str, fds: Sequence[int] = ()) -> bool:
    """Send `state`, such as `READY=1`, to `$NOTIFY_SOCKET`; say whether somebody took it.

    `fds` travel with it, and are duplicated on the way. A supervisor that does not listen must not
    stop the service, so a failure to send is no error: systemd itself then reports the time-out.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)  # send_fds of Python 3.11 forgets the address it is given
            if fds:
                socket.send_fds(sender, [state.encode()], list(fds))
            else:
                sender.send(state.encode())
        except OSError:
            return False
    return True


def barrier() -> None:
    """Wait until systemd has read all that was sent before (sd_notify_barrier(3)).

    What a process sent just before it ended may otherwise be thrown away, because nobody knows any
    more whose it was.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        sent = notify("BARRIER=1", [theirs])
        os.close(theirs)
        if sent:
            poll = select.poll()
            poll.register(ours, 0)  # the other end's closing is always reported
            poll.poll(BARRIER_TIMEOUT_MS)
    finally:
        os.close(ours)


def reloading(now_s: float) -> None:
    """Say that a reload begins; `now_s` is of the monotonic clock, as Type=notify-reload asks."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={int(now_s * 1e6)}")


def watchdog_interval_s() -> float | None:
    """Return how often systemd wants to hear of us (`WatchdogSec=`), with room for two misses."""
    try:
        limit_s = int(os.environ.get("WATCHDOG_USEC", "")) / 1e6
        watched = int(os.environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return limit_s / 3 if limit_s > 0 and watched == os.getpid() else None


async def feed_watchdog(interval_s: float) -> None:
    """Tell systemd that the event loop turns, until cancelled.

    It is the loop that sends it, so that a loop that hangs is killed and started again.
    """
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
