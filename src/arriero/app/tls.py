"""Certificates from files, read again when they change."""

import asyncio
import logging
import ssl
from pathlib import Path

from arriero.config.settings import Tls

_log = logging.getLogger("arriero.app")


class TlsUnusable(Exception):
    """The certificate or its key cannot be read, or they do not belong together."""


def load_context(tls: Tls) -> ssl.SSLContext:
    """Return a server context. Raises TlsUnusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one; neither names its file
        reason = error.strerror or str(error)
        raise TlsUnusable(f"{tls.certificate} and {tls.key}: {reason}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


async def keep_fresh(tls: Tls, context: ssl.SSLContext) -> None:
    """Load changed files into `context`, so that new connections get them; until cancelled.

    They are tried in a context of their own first: half of a renewed pair (the certificate
    without its key) would otherwise break the one that serves.
    """
    seen = _stamp(tls)
    while True:
        await asyncio.sleep(tls.reload_check_s)
        now = _stamp(tls)
        if now == seen:
            continue
        try:
            load_context(tls)
            context.load_cert_chain(tls.certificate, tls.key)
        except (OSError, TlsUnusable) as error:
            _log.warning("certificate not reloaded", extra={"reason": str(error)})
            continue  # tried again at the next check: the other half may be on its way
        seen = now
        _log.info("certificate reloaded", extra={"certificate": tls.certificate})


def _stamp(tls: Tls) -> tuple[tuple[int, int], ...]:
    stamps = []
    for path in (tls.certificate, tls.key):
        try:
            status = Path(path).stat()
        except OSError:
            stamps.append((0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_ino))
    return tuple(stamps)
