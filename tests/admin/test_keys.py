"""The key API over HTTP, on both databases: keys made, shown, changed and ended."""

from tests.admin.conftest import Api
from tests.server.client import chat

CHAT = "/v1/chat/completions"


async def test_a_key_is_made_used_and_shown(api: Api) -> None:
    made = await api.make(key_alias="bob", models=["llama"], duration="30d", metadata={"a": [1]})
    secret = made["key"]
    assert secret.startswith("sk-")
    assert len(secret) == 46
    assert made["token"] == made["token_id"]
    answer = await api.client.ask("POST", CHAT, chat("a"), key=secret)
    assert answer.status == 200
    for named in (made["token"], "bob", secret):
        shown = await api.ask("GET", f"/key/info?key={named}")
        assert shown["key"] == named
        assert shown["info"]["key_alias"] == "bob"
        assert shown["info"]["metadata"] == {"a": [1]}
        assert shown["info"]["status"] == "active"
        assert shown["info"]["models"] == ["llama"]
        assert "token" not in shown["info"]
        assert "key" not in shown["info"]
