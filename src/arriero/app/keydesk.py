"""How commands ask the key API: through a running service, or on its store directly.

Both ways ask the same application the same things, so that a key made while the service is down is
the key that it would have made. The direct way signs what it does as `local:NAME`.
"""

import asyncio
import getpass
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

import msgspec

from arriero.app.client import Endpoint
from arriero.app.clock import SystemClock
from arriero.app.keeper import Keeper, open_keeper
from arriero.app.keyapi import build_key_api
from arriero.base.errors import GatewayError
from arriero.config.settings import Store as StoreSettings
from arriero.core.access import padded_key
from arriero.core.keys import Key
from arriero.server.asgi import AsgiApp, Call, run_app

LOCAL_PREFIX: Final = "local:"
_OK: Final = 200
_HINT: Final = " (hint: "
_REQUEST: Final = " [request "


class Refused(Exception):
    """The API said no, or nothing; `status` is 0 when it could not be asked."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint


class KeyDesk(Protocol):
    """Somewhere to ask."""

    def ask(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> Any:
        """Return what the API answers, as JSON values. Raises Refused."""
        ...


class ThroughService:
    """The key API of a running gateway."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint = endpoint
        self._key = key

    def ask(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> Any:
        """Return what the API answers. Raises Refused."""
        target = with_query(path, query)
        exchange = self._endpoint.call(method, target, key=self._key, body=body)
        if exchange.error:
            raise Refused(0, "", f"{self._endpoint.url}: {exchange.error}", "")
        if exchange.status != _OK:
            raise _refusal(exchange.status, exchange.body)
        try:
            return msgspec.json.decode(exchange.body)
        except msgspec.DecodeError:
            raise Refused(
                0, "", f"{self._endpoint.url} answers no JSON", "is it arriero at all?"
            ) from None


class OnTheStore:
    """The same application on the store itself; to be used in a `with`.

    Opening raises StoreError.
    """

    def __init__(
        self, settings: StoreSettings, state: Path | None, master_key: str | None = None
    ) -> None:
        self._settings = settings
        self._state = state
        self._padded_master = padded_key(master_key.encode()) if master_key else None
        self._clock = SystemClock()
        self._ends = ExitStack()
        self._keeper: Keeper | None = None
        self._app: AsgiApp | None = None

    def __enter__(self) -> Self:
        """Open the store."""
        self._runner = self._ends.enter_context(asyncio.Runner())
        keeper = self._runner.run(open_keeper(self._settings, self._state, self._clock))
        assert keeper is not None, "there is a place for it"
        self._ends.callback(lambda: self._runner.run(keeper.close()))
        self._app = build_key_api(keeper, self._clock, lambda: self._padded_master)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it."""
        self._ends.close()

    def ask(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> Any:
        """Return what the API answers. Raises Refused."""
        assert self._app is not None
        somebody = Key(id=f"{LOCAL_PREFIX}{getpass.getuser()}", digest=b"", role="admin")
        call = Call(
            method=method,
            path=path,
            query=with_query("", query).removeprefix("?").encode(),
            body=b"" if body is None else msgspec.json.encode(body),
            state={"key": somebody, "client": ""},
        )
        try:
            answer = self._runner.run(run_app(self._app, call))
        except GatewayError as error:
            raise Refused(error.status, error.code, error.message, error.hint or "") from error
        return msgspec.json.decode(answer.body)


def with_query(path: str, query: dict[str, str] | None) -> str:
    """Return a path with a query; empty values are left out."""
    given = {name: value for name, value in (query or {}).items() if value}
    words = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
    return f"{path}?{words}" if words else path


def _refusal(status: int, body: bytes) -> Refused:
    """Return what an error says, in the parts that it was put together from."""
    try:
        error = msgspec.json.decode(body)["error"]
        text, code = str(error["message"]), str(error.get("code") or "")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return Refused(status, "", f"HTTP {status}", "is it arriero at all?")
    text = text.rpartition(_REQUEST)[0] or text
    message, _, hint = text.partition(_HINT)
    return Refused(status, code, message, hint.removesuffix(")"))
