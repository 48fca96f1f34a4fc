"""Open WebUI's admin API: reading a state, carrying out changes, chatting as its users do.

Answers that are no success become a `Trouble` in Open WebUI's own words, without a key.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from arriero.app.client import Endpoint, Exchange
from arriero.app.webui.changes import Change
from arriero.app.webui.state import (
    NEW_GROUP,
    NEW_KEY,
    Document,
    Group,
    ModelRecord,
    OpenAI,
    State,
    in_order,
    only,
)
from arriero.app.webui.trouble import Trouble

OK = 200
REFUSED = (401, 403)
TOO_MANY = 429  # Open WebUI counts sign-ins, good ones too.
CALL_TIMEOUT_S = 60.0
CHAT_TOKENS_MAX = 16
HINT_ADMIN = "the account must be an administrator's; --email and --password-file, or --token-file"

T = TypeVar("T")


class User(msgspec.Struct, frozen=True):
    """One account."""

    id: str
    email: str
    role: str


class Users(msgspec.Struct, frozen=True):
    """An answer of `/api/v1/users/all`."""

    users: tuple[User, ...]


class Token(msgspec.Struct, frozen=True):
    """What signing in gives."""

    token: str
    role: str = ""


class Listed(msgspec.Struct, frozen=True):
    """One row of a model list."""

    id: str


class Models(msgspec.Struct, frozen=True):
    """A model list, Open WebUI's or the gateway's."""

    data: tuple[Listed, ...]


class Named(msgspec.Struct, frozen=True):
    """One row of the list of groups."""

    id: str
    name: str


class Version(msgspec.Struct, frozen=True):
    """An answer of `/api/version`."""

    version: str


class OpenWebUI:
    """One Open WebUI, spoken to as an administrator."""

    __slots__ = ("_endpoint", "_token")

    def __init__(self, endpoint: Endpoint, token: str = "") -> None:
        self._endpoint = endpoint
        self._token = token

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        return self._endpoint.url

    def sign_in(self, email: str, password: str) -> None:
        """Exchange a password for a token, which is then used."""
        body = {"email": email, "password": password}
        exchange = self._endpoint.call("POST", "/api/v1/auths/signin", body=body)
        if exchange.status in (400, *REFUSED):
            raise Trouble(f"{self.url} refuses {email}: {said(exchange)}", HINT_ADMIN, code=2)
        if exchange.status == TOO_MANY:
            hint = "wait three minutes, or give an API key: --token-file FILE"
            raise Trouble(f"{self.url} lets nobody sign in so often", hint)
        self._token = self._decoded(exchange, Token).token

    def version(self) -> str:
        """Return its version, which needs no account."""
        return self._decoded(self._endpoint.call("GET", "/api/version"), Version).version

    def read(self, group_name: str, ids: Collection[str] | None, prefix: str = "") -> State:
        """Return the state: the group of that name, and the records of these models.

        Without `ids` the records are those whose name has the prefix.
        """
        records = self._get("/api/v1/models/all", tuple[ModelRecord, ...])
        if ids is None:
            ids = [r.id for r in records if prefix and r.id.startswith(f"{prefix}.")]
        return in_order(
            State(
                openai=self._get("/openai/config", OpenAI),
                defaults=self._get("/api/v1/configs/models", Document),
                group=self._group(group_name),
                models=only(records, ids),
            )
        )

    def _group(self, name: str) -> Group | None:
        groups = self._get("/api/v1/groups/", tuple[Named, ...])
        found = [group.id for group in groups if group.name == name]
        return self._get(f"/api/v1/groups/id/{found[0]}/export", Group) if found else None

    def connections(self) -> OpenAI:
        """Return the OpenAI-compatible connections alone."""
        return self._get("/openai/config", OpenAI)

    def ollama_urls(self) -> tuple[str, ...]:
        """Return the Ollama hosts it speaks to directly, none when that is switched off."""
        config = self._get("/ollama/config", Document)
        return tuple(config["OLLAMA_BASE_URLS"]) if config.get("ENABLE_OLLAMA_API") else ()

    def users(self) -> tuple[User, ...]:
        """Return all accounts."""
        return self._get("/api/v1/users/all", Users).users

    def digests(self) -> dict[str, str]:
        """Return a SHA-256 of each value of its whole configuration, which itself holds secrets.

        They are those of the bytes that Open WebUI sends, so that equal ones prove equal bytes.
        """
        config = self._get("/api/v1/configs/export", dict[str, msgspec.Raw])
        return {name: hashlib.sha256(value).hexdigest() for name, value in config.items()}

    def verify(self, url: str, key: str) -> tuple[str, ...]:
        """Return the aliases of a gateway as Open WebUI itself reaches it."""
        body = {"url": url, "key": key, "config": {}}
        exchange = self._call("POST", "/openai/verify", body)
        if exchange.status != OK:
            raise Trouble(
                f"Open WebUI gets no models from {url}: {said(exchange)}",
                "is this the address as Open WebUI's host reaches it, and the key right? --url",
                code=1,
            )
        return tuple(model.id for model in self._decoded(exchange, Models).data)

    def apply(self, changes: Iterable[Change], key: str = "") -> None:
        """Carry out the changes in order, and have the list of models made anew.

        Until it is, Open WebUI answers "Model not found" for models it has just got to know.
        """
        real = {NEW_KEY: key}
        for change in changes:
            path = change.path.replace(NEW_GROUP, real.get(NEW_GROUP, NEW_GROUP))
            exchange = self._call(change.method, path, with_real(change.body, real))
            if exchange.status != OK:
                raise Trouble(
                    f"{change.words}: {said(exchange)}",
                    "arriero webui rollback undoes what was done so far",
                    code=1,
                )
            if change.makes_group:
                real[NEW_GROUP] = self._decoded(exchange, Named).id
        self.models()

    def models(self) -> tuple[str, ...]:
        """Have the list of models made anew, and return it as this account sees it."""
        return tuple(model.id for model in self._get("/api/models", Models).data)

    def chat(self, model: str, timeout_s: float) -> Exchange:
        """Ask a model something short through Open WebUI."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Say hello in one word."}],
            "max_tokens": CHAT_TOKENS_MAX,
            "stream": False,
        }
        return self._endpoint.call(
            "POST", "/api/chat/completions", key=self._token, body=body, timeout_s=timeout_s
        )

    def _get(self, path: str, shape: type[T]) -> T:
        return self._decoded(self._call("GET", path), shape)

    def _call(self, method: str, path: str, body: object = None) -> Exchange:
        return self._endpoint.call(
            method, path, key=self._token, body=body, timeout_s=CALL_TIMEOUT_S
        )

    def _decoded(self, exchange: Exchange, shape: type[T]) -> T:
        if exchange.error:
            raise Trouble(f"{self.url}: {exchange.error}", "is Open WebUI running there? --webui")
        where = f"{exchange.method} {exchange.path}"
        if exchange.status in REFUSED:
            raise Trouble(f"{where}: {said(exchange)}", HINT_ADMIN, code=2)
        if exchange.status != OK:
            raise Trouble(f"{where}: {said(exchange)}", "is this Open WebUI 0.12 or later?")
        try:
            return msgspec.json.decode(exchange.body, type=shape)
        except msgspec.DecodeError as wrong:
            hint = "is this Open WebUI 0.12 or later?"
            raise Trouble(f"{where}: {wrong}", hint) from wrong


def said(exchange: Exchange) -> str:
    """Return a failed answer in its own words: FastAPI's `detail`, or OpenAI's message."""
    if exchange.error:
        return exchange.error
    try:
        body = msgspec.json.decode(exchange.body)
    except msgspec.DecodeError:
        body = None
    # A gateway's answer to Open WebUI comes back as text inside of text.
    inner = body if isinstance(body, dict) else {}
    detail = inner.get("detail") or inner.get("error") or inner.get("message")
    if isinstance(detail, dict):
        detail = detail.get("message")
    return f"HTTP {exchange.status}" + (f": {detail}" if isinstance(detail, str) else "")


def with_real(value: Any, real: Mapping[str, str]) -> Any:
    """Return a body with what stood for something yet to be made replaced by what was made."""
    if isinstance(value, str):
        return real.get(value, value)
    if isinstance(value, list):
        return [with_real(item, real) for item in value]
    if isinstance(value, dict):
        return {name: with_real(item, real) for name, item in value.items()}
    return value
