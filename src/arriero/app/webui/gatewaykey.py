"""A key of Open WebUI's own, where the gateway can make one.

The paths and fields are those of LiteLLM's key API (`/key/list`, `/key/generate`, `/key/delete`).
A gateway without it, or without the database it needs, leaves the given key, and that is told: with
a master key whoever administers Open WebUI administers the gateway.
"""

import msgspec

from arriero.app.client import Endpoint
from arriero.app.webui.api import OK, said
from arriero.app.webui.trouble import Trouble

MODELS_PATH = "/v1/models"
NO_STORE = 501  # an arriero's that is given no place for keys


class KeyApi(msgspec.Struct, frozen=True):
    """Whether keys can be made with the given one; `reason` says why not."""

    ready: bool
    reason: str = ""


class Made(msgspec.Struct, frozen=True):
    """An answer of `/key/generate`; the key is shown this once."""

    key: str


def ask_key_api(gateway: Endpoint, key: str) -> KeyApi:
    """Return whether this key may make keys, by asking for a list of them."""
    exchange = gateway.call("GET", "/key/list?size=1", key=key)
    if exchange.error:
        raise Trouble(f"{gateway.url}: {exchange.error}", "is the gateway running there? --url")
    if exchange.status == OK:
        return KeyApi(ready=True)
    if exchange.status == 404:  # noqa: PLR2004 - not found
        return KeyApi(ready=False, reason="the gateway has no key API")
    if exchange.status == NO_STORE:
        return KeyApi(
            ready=False, reason="the gateway has no key API while it has no store for keys"
        )
    return KeyApi(ready=False, reason=f"the gateway makes no keys with this one ({said(exchange)})")


def works(gateway: Endpoint, key: str) -> bool:
    """Return whether the gateway takes a key."""
    return bool(key) and gateway.call("GET", MODELS_PATH, key=key).status == OK


def make(gateway: Endpoint, key: str, alias: str) -> str:
    """Have a key of this alias made, and return it."""
    # Trusted: it speaks for all users of Open WebUI, whom the gateway tells apart by a header.
    # LiteLLM knows no such field, and passes over it.
    body = {"key_alias": alias, "metadata": {"made_by": "arriero webui"}, "trusted": True}
    exchange = gateway.call("POST", "/key/generate", key=key, body=body)
    if exchange.status != OK:
        raise Trouble(
            f"no key for {alias}: {said(exchange)}",
            "is there a key of this alias already? --key-alias gives another",
            code=1,
        )
    try:
        return msgspec.json.decode(exchange.body, type=Made).key
    except msgspec.DecodeError as wrong:
        raise Trouble(f"/key/generate: {wrong}", "is this a LiteLLM or an arriero?") from wrong


def drop(gateway: Endpoint, key: str, alias: str) -> str | None:
    """Delete the key of this alias; return what went wrong, None when it is gone."""
    exchange = gateway.call("POST", "/key/delete", key=key, body={"key_aliases": [alias]})
    return None if exchange.status == OK else said(exchange)
