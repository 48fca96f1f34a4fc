"""What somebody's script does with LiteLLM's virtual keys, in the words of LiteLLM's documentation.

It knows nothing of arriero: an address, a master key and a model are all it is given, and it ends
with code 0 when everything was as LiteLLM promises. `python litellm_script.py` with PROXY_BASE_URL,
LITELLM_MASTER_KEY and MODEL in the environment runs it against any such proxy.
"""

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

import openai

BASE = os.environ["PROXY_BASE_URL"]
MASTER = os.environ["LITELLM_MASTER_KEY"]
MODEL = os.environ["MODEL"]


def call(
    method: str, path: str, body: object = None, key: str = MASTER, expected: int = 200
) -> Any:
    request = urllib.request.Request(
        f"{BASE}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, content = response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, content = error.code, error.read()
    assert status == expected, f"{method} {path}: {status} {content!r}"
    return json.loads(content)


def ask(key: str, model: str = MODEL) -> str:
    with openai.OpenAI(api_key=key, base_url=f"{BASE}/v1", max_retries=0) as client:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hello!"}]
        )
    return answer.choices[0].message.content or ""


def refused(key: str, kind: type[openai.APIStatusError], model: str = MODEL) -> None:
    try:
        ask(key, model)
    except kind:
        return
    raise AssertionError(f"{kind.__name__} expected")


def generate() -> str:
    made = call(
        "POST",
        "/key/generate",
        {
            "models": [MODEL],
            "duration": "20m",
            "key_alias": "team-a-app",
            "user_id": "ishaan@example.com",
            "team_id": "core-infra",
            "metadata": {"team": "core-infra", "app": "app2"},
            "tags": ["production"],
            "max_parallel_requests": 10,
            "rpm_limit": 1000,
            "tpm_limit": 1_000_000,
            "max_budget": None,
            "aliases": {},
            "config": {},
            "permissions": {},
        },
    )
    assert made["key"].startswith("sk-")
    assert made["key_name"].endswith(made["key"][-4:])
    assert made["expires"] is not None
    assert made["token"] != made["key"]
    assert (made["models"], made["user_id"]) == ([MODEL], "ishaan@example.com")
    assert made["metadata"]["app"] == "app2"
    key: str = made["key"]
    return key


def look(key: str) -> None:
    found = call("GET", f"/key/info?key={key}")
    assert found["key"] == key
    info = found["info"]
    assert info["key_alias"] == "team-a-app"
    assert info["team_id"] == "core-infra"
    assert (info["rpm_limit"], info["max_parallel_requests"]) == (1000, 10)
    assert (info["spend"], info["max_budget"], info["aliases"]) == (0.0, None, {})
    assert info["status"] == "active"
    assert call("GET", "/key/info", key=key)["info"]["key_alias"] == "team-a-app"
    many = call("POST", "/v2/key/info", {"keys": [key]})
    assert many["info"][0]["key_name"] == info["key_name"]
    call("GET", "/key/info?key=sk-this-key-is-nobodys", expected=404)


def update(key: str) -> None:
    changed = call("POST", "/key/update", {"key": key, "metadata": {"app": "app3"}})
    assert changed["key"] == key
    assert changed["metadata"] == {"app": "app3"}
    assert changed["rpm_limit"] == 1000, "what is left out stays"
    changed = call("POST", "/key/update", {"key": key, "rpm_limit": None, "duration": None})
    assert changed["rpm_limit"] is None
    assert changed["expires"] is None


def pages() -> None:
    for number in range(12):
        call("POST", "/key/generate", {"key_alias": f"page-{number:02d}"})
    first = call("GET", "/key/list?page=1&size=5")
    assert len(first["keys"]) == 5
    assert (first["total_count"], first["total_pages"], first["current_page"]) == (13, 3, 1)
    seen = [
        key for page in (1, 2, 3) for key in call("GET", f"/key/list?page={page}&size=5")["keys"]
    ]
    assert len(set(seen)) == 13
    (found,) = call("GET", "/key/list?key_alias=page-07&return_full_object=true")["keys"]
    assert found["key_alias"] == "page-07"
    aliases = [f"page-{number:02d}" for number in range(12)]
    gone = call("POST", "/key/delete", {"key_aliases": aliases})
    assert gone["deleted_keys"] == aliases


def rotate(key: str) -> str:
    made = call("POST", f"/key/{key}/regenerate", {"grace_period": "2s"})
    new: str = made["key"]
    assert new != key
    assert made["key_alias"] == "team-a-app"
    assert ask(new)
    assert ask(key), "both work during the grace period"
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            ask(key)
        except openai.AuthenticationError:
            assert ask(new)
            return new
    raise AssertionError("the old key never ended")


def main() -> None:
    key = generate()
    assert ask(key)
    refused(key, openai.PermissionDeniedError, "another-model")
    look(key)
    update(key)
    pages()
    call("POST", "/key/block", {"key": key})
    refused(key, openai.AuthenticationError)
    call("POST", "/key/unblock", {"key": key})
    assert ask(key)
    new = rotate(key)
    call("POST", "/key/generate", {"key": "sk-short"}, expected=400)
    own = call("POST", "/key/generate", {"key": "sk-my-own-key-0123456789"})
    assert own["key"] == "sk-my-own-key-0123456789"
    assert ask(own["key"])
    gone = call("POST", "/key/delete", {"keys": [new, own["key"]]})
    assert gone["deleted_keys"] == [new, own["key"]]
    refused(new, openai.AuthenticationError)
    refused(own["key"], openai.AuthenticationError)
    assert call("GET", "/key/list")["total_count"] == 0


if __name__ == "__main__":
    main()
