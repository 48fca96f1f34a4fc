"""A small blocking HTTP client for the commands that ask a gateway something.

It is the standard library's `http.client` with a limit on what it reads, and it never raises for
what happens on the network: an `Exchange` holds the answer or the reason why there is none, so that
judging it is a pure function. Certificates are checked against the system's; `SSL_CERT_FILE` names
another bundle.
"""

import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from arriero.base.clock import Clock

BODY_BYTES_MAX = 8_388_608
CONNECT_TIMEOUT_S = 5.0


class AddressError(ValueError):
    """Not an address one could connect to; the message says what is wrong with it."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it: a status and a body, or an `error`.

    `path` is the whole target, `began_s` and `took_s` are monotonic seconds. The headers sent are
    held without the key, which stands in no field.
    """

    method: str
    path: str
    sent_headers: dict[str, str]
    sent_body: bytes = b""
    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    began_s: float = 0.0
    took_s: float = 0.0
    error: str | None = None


class Endpoint:
    """Where requests go: `http://host:port/prefix`, with or without a trailing `/v1`."""

    __slots__ = ("_clock", "_host", "_port", "_prefix", "_tls", "url")

    def __init__(self, url: str, clock: Clock) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AddressError(f"{url!r} is not an http or https address")
        try:
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as wrong:
            raise AddressError(f"{url!r} has a port that is none") from wrong
        self._clock = clock
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        # People copy the address their clients use, which ends in /v1.
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._prefix}"

    def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: object = None,
        timeout_s: float = 30.0,
    ) -> Exchange:
        """Send one request on a connection of its own and return what came of it."""
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {"Accept": "*/*", "Connection": "close", "User-Agent": "arriero"}
        if content:
            headers["Content-Type"] = "application/json"
        secret = {} if key is None else {"Authorization": f"Bearer {key}"}
        shown = {} if key is None else {"Authorization": "Bearer ***"}
        exchange = Exchange(
            method=method,
            path=self._prefix + path,
            sent_headers=headers | shown,
            sent_body=content,
            began_s=self._clock.now_s(),
        )
        try:
            answer = self._answer(exchange, headers | secret, timeout_s)
        except (OSError, http.client.HTTPException) as failure:
            answer = {"error": _reason(failure)}
        took_s = self._clock.now_s() - exchange.began_s
        return msgspec.structs.replace(exchange, took_s=took_s, **answer)

    def _answer(
        self, exchange: Exchange, headers: Mapping[str, str], timeout_s: float
    ) -> dict[str, object]:
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            connection.request(
                exchange.method, exchange.path, exchange.sent_body or None, dict(headers)
            )
            response = connection.getresponse()
            body = response.read(BODY_BYTES_MAX + 1)
            if len(body) > BODY_BYTES_MAX:
                return {"error": f"the answer is longer than {BODY_BYTES_MAX} bytes"}
            if (
                response.length
            ):  # http.client is silent about this when it was told how much to read
                return {"error": "the answer broke off"}
            received = {name.lower(): value for name, value in response.getheaders()}
            return {"status": response.status, "headers": received, "body": body}
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        return http.client.HTTPSConnection(
            self._host,
            self._port,
            timeout=CONNECT_TIMEOUT_S,
            context=ssl.create_default_context(),
        )


def _reason(failure: OSError | http.client.HTTPException) -> str:
    """Say in words what the network did; class names mean nothing to an operator."""
    if isinstance(failure, TimeoutError):
        return "no answer in time"
    if isinstance(failure, ConnectionRefusedError):
        return "connection refused"
    if isinstance(failure, http.client.IncompleteRead):
        return "the answer broke off"
    if isinstance(failure, http.client.RemoteDisconnected | ConnectionResetError):
        return "the connection was closed without an answer"
    return str(failure) or type(failure).__name__
