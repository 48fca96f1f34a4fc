"""Hand an exchange to the key API, and its answer to the client."""

from arriero.base.errors import NoStore
from arriero.core.keys import Key
from arriero.server.asgi import Answer, Call
from arriero.server.exchange import JSON, Exchange

_SAID_BY_THE_EXCHANGE = (b"content-type", b"content-length", b"connection", b"date")


async def ask_key_api(exchange: Exchange, key: Key, body: bytes) -> None:
    """Answer a call of the key API in the name of `key`. Raises NoStore, and what it raises."""
    app = exchange.gateway.key_api
    if app is None:
        raise NoStore(
            "this gateway keeps no keys and no usage",
            hint="set store.url, or start it with --state-directory",
        )
    request, record = exchange.request, exchange.record
    call = Call(
        method=request.method.decode("latin-1"),
        path=request.path.rstrip("/"),
        query=request.target.partition(b"?")[2].partition(b"#")[0],
        headers=tuple(
            (name, request.headers[name])
            for name in (b"accept", b"content-type")
            if name in request.headers
        ),
        body=body,
        state={"key": key, "client": record.client},
    )
    app.begin(call, exchange)
    answer = await exchange
    assert isinstance(answer, Answer)
    more = b"".join(
        b"%b: %b\r\n" % (name.title(), value)
        for name, value in answer.headers.items()
        if name not in _SAID_BY_THE_EXCHANGE
    )
    content_type = answer.headers.get(b"content-type", JSON)
    exchange.reply(answer.status, answer.body, content_type, more)
