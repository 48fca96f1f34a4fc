"""Facts over the network: what the gateway answers, and what its hosts answer us directly."""

import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import msgspec

from arriero.app.client import Endpoint, Exchange
from arriero.app.doctor.facts import Backend, Gateway
from arriero.app.exposition import read
from arriero.app.smoke.answers import OK
from arriero.app.smoke.fleet import status_page
from arriero.app.smoke.steps import MODELS_PATH, STATUS_PATH
from arriero.base.clock import Clock

TIMEOUT_S = 10.0
RTT_COUNT = 3
ASKED_AT_ONCE_MAX = 16
DAY_S = 86_400.0
VERSION_PATH = "/api/version"


class Version(msgspec.Struct):
    """An answer of Ollama's `/api/version`."""

    version: str


class Tag(msgspec.Struct):
    """One model of Ollama's `/api/tags`."""

    name: str
    digest: str = ""


class Tags(msgspec.Struct):
    """An answer of `/api/tags`."""

    models: list[Tag]


def ask_gateway(url: str, key: str | None, clock: Clock) -> Gateway:
    """Ask the gateway what every row needs to know of it. Raises AddressError."""
    endpoint = Endpoint(url, clock)
    parts = urlsplit(endpoint.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    alive = endpoint.call("GET", "/health/liveliness", timeout_s=TIMEOUT_S)
    days, wrong = certificate(host, port, clock) if parts.scheme == "https" else (None, None)
    found = Gateway(
        url=endpoint.url,
        port=port,
        here=is_here(host),
        alive=alive,
        certificate_days=days,
        certificate_wrong=wrong,
        skew_s=skew(alive, clock),
    )
    if alive.error:
        return found
    metrics = endpoint.call("GET", "/metrics", key=key, timeout_s=TIMEOUT_S)
    text = metrics.body.decode(errors="replace")
    status = endpoint.call("GET", STATUS_PATH, key=key, timeout_s=TIMEOUT_S) if key else None
    return msgspec.structs.replace(
        found,
        ready=endpoint.call("GET", "/health/readiness", timeout_s=TIMEOUT_S),
        stranger=endpoint.call("GET", MODELS_PATH, timeout_s=TIMEOUT_S),
        keyed=endpoint.call("GET", MODELS_PATH, key=key, timeout_s=TIMEOUT_S) if key else None,
        page=status_page(status) if status else None,
        readings=read(text) if metrics.status == OK else None,
    )


def is_here(host: str) -> bool:
    """Return whether a name stands for this host: only here can its address be listened on."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as trial:
            try:
                trial.bind(address)
            except OSError:
                continue
            return True
    return False


def certificate(host: str, port: int, clock: Clock) -> tuple[float | None, str | None]:
    """Return for how many days the certificate is good, or what is wrong with it."""
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            told = wrapped.getpeercert() or {}
    except ssl.SSLCertVerificationError as wrong:
        return None, wrong.verify_message
    except (OSError, ssl.SSLError):
        return None, None  # Nobody there, or no TLS: the first row tells.
    until_s = ssl.cert_time_to_seconds(str(told["notAfter"]))
    return (until_s - clock.unix_s()) / DAY_S, None


def skew(exchange: Exchange, clock: Clock) -> float | None:
    """Return how far the answering clock is ahead of ours; a Date has whole seconds."""
    try:
        told_s = parsedate_to_datetime(exchange.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    return told_s - clock.unix_s()


def ask_backends(urls: Sequence[str], clock: Clock) -> tuple[Backend, ...]:
    """Ask all Ollama hosts at once. Raises AddressError."""
    endpoints = [Endpoint(url, clock) for url in dict.fromkeys(urls)]
    if not endpoints:
        return ()
    with ThreadPoolExecutor(min(len(endpoints), ASKED_AT_ONCE_MAX)) as pool:
        return tuple(pool.map(lambda endpoint: ask_backend(endpoint, clock), endpoints))


def ask_backend(endpoint: Endpoint, clock: Clock) -> Backend:
    """Ask one host for its version, a few times, and for its models; nothing is loaded by it."""
    asked = [endpoint.call("GET", VERSION_PATH, timeout_s=TIMEOUT_S) for _ in range(RTT_COUNT)]
    failed = [exchange for exchange in asked if exchange.error or exchange.status != OK]
    if failed:
        error = failed[0].error or f"HTTP {failed[0].status}"
        return Backend(url=endpoint.url, error=error)
    try:
        version = msgspec.json.decode(asked[0].body, type=Version).version
        tags = endpoint.call("GET", "/api/tags", timeout_s=TIMEOUT_S)
        models = msgspec.json.decode(tags.body, type=Tags).models
    except msgspec.DecodeError as wrong:
        return Backend(url=endpoint.url, error=f"no Ollama: {wrong}")
    return Backend(
        url=endpoint.url,
        version=version,
        rtts_s=tuple(exchange.took_s for exchange in asked),
        models={tag.name: tag.digest for tag in models},
        skew_s=skew(asked[-1], clock),
    )
