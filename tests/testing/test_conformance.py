"""What Ollama does before it needs a model, held against the simulation, or against a real one.

`tests/testing/asking.py` says how to ask a real one. Each test names the file of Ollama's
repository that it follows.
"""

from datetime import datetime

import pytest
from tests.testing.asking import DETAILS, REAL, SHORT, USER, Host

# The words of encoding/json.
MUST = "json: cannot unmarshal "
THINK = '"high", "medium", "low", "max", true, or false'


# Inventory


async def test_the_root_is_a_text(host: Host) -> None:
    """server/routes.go, GenerateRoutes."""
    got = await host.ask("GET", "/")
    assert (got.status, got.text, got.type) == (
        200,
        "Ollama is running",
        "text/plain; charset=utf-8",
    )


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
async def test_head_is_answered_without_a_body(host: Host, path: str) -> None:
    """server/routes.go, GenerateRoutes."""
    got = await host.ask("HEAD", path)
    assert (got.status, got.text) == (200, "")


async def test_version_and_status(host: Host) -> None:
    """server/routes.go, GenerateRoutes and StatusHandler."""
    assert set((await host.ask("GET", "/api/version")).json) == {"version"}
    status = (await host.ask("GET", "/api/status")).json
    assert set(status["cloud"]) == {"disabled", "source"}


async def test_a_host_without_models_has_null_data_on_v1_and_lists_natively(bare: Host) -> None:
    """openai/openai.go, ToListCompletion: a nil slice."""
    if REAL:
        pytest.skip("the real host may have models")
    assert (await bare.ask("GET", "/api/tags")).json == {"models": []}
    assert (await bare.ask("GET", "/api/ps")).json == {"models": []}
    assert (await bare.ask("GET", "/v1/models")).json == {"object": "list", "data": None}


async def test_tags_name_digest_details_and_capabilities(host: Host) -> None:
    """api/types.go, ListModelResponse."""
    name = await host.model("completion")
    listed = (await host.ask("GET", "/api/tags")).json["models"]
    entry = next(model for model in listed if model["name"] == name)
    fields = {"name", "model", "modified_at", "size", "digest", "details", "capabilities"}
    assert set(entry) == fields
    assert set(entry["details"]) >= DETAILS | {"context_length", "embedding_length"}
    assert len(entry["digest"]) == 64
    assert datetime.fromisoformat(entry["modified_at"][:19]).year >= 2026


async def test_ps_lists_what_is_loaded(host: Host) -> None:
    """api/types.go, ProcessModelResponse."""
    name = await host.model("completion")
    await host.post("/api/generate", {"model": name, "keep_alive": "7m", "options": SHORT})
    running = (await host.ask("GET", "/api/ps")).json["models"]
    entry = next(model for model in running if model["name"] == name)
    assert set(entry) == {
        "name",
        "model",
        "size",
        "digest",
        "details",
        "expires_at",
        "size_vram",
        "context_length",
    }
    assert set(entry["details"]) == DETAILS
    assert entry["context_length"] == SHORT["num_ctx"]


async def test_show_gives_capabilities_and_model_info(host: Host) -> None:
    """server/routes.go, ShowHandler; `name` is the older spelling of `model`."""
    name = await host.model("completion")
    shown = (await host.post("/api/show", {"model": name})).json
    assert {"template", "details", "model_info", "capabilities", "modified_at"} <= set(shown)
    family = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{family}.context_length"] > 0
    older = (await host.post("/api/show", {"name": name})).json
    assert older["capabilities"] == shown["capabilities"]


async def test_a_model_of_v1(host: Host) -> None:
    """openai/openai.go, ToModel."""
    name = await host.model("completion")
    got = (await host.ask("GET", f"/v1/models/{name}")).json
    assert (got["id"], got["object"], got["owned_by"]) == (name, "model", "library")
    listed = (await host.ask("GET", "/v1/models")).json["data"]
    assert {"id", "object", "created", "owned_by"} == set(listed[0])


# Routing


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_a_text(host: Host, method: str) -> None:
    """gin's own answer."""
    got = await host.ask(method, "/nope")
    assert (got.status, got.text, got.type) == (404, "404 page not found", "text/plain")


async def test_a_model_of_v1_is_one_segment(host: Host) -> None:
    """server/routes.go: `/v1/models/:model`."""
    assert (await host.ask("GET", "/v1/models/me/mine")).text == "404 page not found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/chat", "POST"),
        ("PUT", "/api/chat", "POST"),
        ("POST", "/api/tags", "HEAD, GET"),
        ("HEAD", "/v1/models", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    host: Host, method: str, path: str, allowed: str
) -> None:
    """gin, HandleMethodNotAllowed."""
    got = await host.ask(method, path)
    assert (got.status, got.headers["allow"]) == (405, allowed)
    assert got.text in {"405 method not allowed", ""}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/tags/", 301)])
async def test_a_slash_too_many_is_redirected(
    host: Host, method: str, path: str, status: int
) -> None:
    """gin, RedirectTrailingSlash."""
    got = await host.ask(method, path)
    assert (got.status, got.headers["location"]) == (status, path.rstrip("/"))


# Errors before a model is looked at


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"model":"no', "unexpected EOF"),
        (b"xyz", "invalid character 'x' looking for beginning of value"),
        (b"{model:1}", "invalid character 'm' looking for beginning of object key string"),
        (b'{"model":"a",}', "invalid character '}' looking for beginning of object key string"),
        (b'{"model" "a"}', "invalid character '\"' after object key"),
        (b'{"model":"a" "b":1}', "invalid character '\"' after object key:value pair"),
        (b'{"model":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[]", f"{MUST}array into Go value of type api.ChatRequest"),
        (b'{"model":5}', f"{MUST}number into Go struct field ChatRequest.model of type string"),
        (
            b'{"model":"a","stream":"yes"}',
            f"{MUST}string into Go struct field ChatRequest.stream of type bool",
        ),
        (
            b'{"model":"a","messages":"x"}',
            f"{MUST}string into Go struct field ChatRequest.messages of type []api.Message",
        ),
        (
            b'{"model":"a","messages":[1]}',
            f"{MUST}number into Go struct field ChatRequest.messages of type api.Alias",
        ),
        (
            b'{"model":"a","messages":[{"content":["a"]}]}',
            f"{MUST}array into Go struct field ChatRequest.messages.content of type string",
        ),
        (
            b'{"model":"a","tools":[{"type":1}]}',
            f"{MUST}number into Go struct field Tool.tools.type of type string",
        ),
        (
            b'{"model":"a","options":"x"}',
            (
                f"{MUST}string into Go struct field ChatRequest.options of type "
                "map[string]interface {}"
            ),
        ),
        (
            b'{"model":"a","top_logprobs":1.5}',
            f"{MUST}number 1.5 into Go struct field ChatRequest.top_logprobs of type int",
        ),
        (b'{"model":"a","top_logprobs":21}', "top_logprobs must be between 0 and 20"),
        (b'{"model":"a","keep_alive":"5x"}', 'time: unknown unit "x" in duration "5x"'),
        (b'{"model":"a","keep_alive":"5"}', 'time: missing unit in duration "5"'),
        (b'{"model":"a","keep_alive":"x"}', 'time: invalid duration "x"'),
        (b'{"model":"a","keep_alive":true}', "Unsupported type: 'bool'"),
        (b'{"model":"a","think":"maybe"}', f'invalid think value: "maybe" (must be {THINK})'),
        (b'{"model":"a","think":5}', f"think must be a boolean or string ({THINK})"),
        (b'{"model":"a","messages":[{"images":["%%%"]}]}', "illegal base64 data at input byte 0"),
        (b"{}", "model is required"),
        (b'{"model":""}', "model is required"),
        (b'{"model":"bad name!"}', "invalid model name"),
        (b'{"model":"a/b/c/d"}', "invalid model name"),
    ],
)
async def test_a_bad_chat_request_is_told_in_gos_words(host: Host, body: bytes, text: str) -> None:
    """server/routes.go, ChatHandler; api/types.go; encoding/json."""
    got = await host.post("/api/chat", body)
    assert (got.status, got.error) == (400, text)
    assert got.type == "application/json; charset=utf-8"


async def test_what_follows_the_first_value_is_ignored(host: Host) -> None:
    """gin decodes one value from the body."""
    got = await host.post("/api/chat", b'{"model":"nope"} and more')
    assert got.error == "model 'nope' not found"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/chat", 404, "model 'nope' not found"),
        ("/api/generate", 404, "model 'nope' not found"),
        ("/api/embed", 404, 'model "nope" not found, try pulling it first'),
        ("/api/embeddings", 404, 'model "nope" not found, try pulling it first'),
        ("/api/show", 404, "model 'nope:latest' not found"),
    ],
)
async def test_a_model_that_is_not_there(host: Host, path: str, status: int, text: str) -> None:
    """server/routes.go: every handler has words of its own."""
    got = await host.post(path, {"model": "nope"})
    assert (got.status, got.error) == (status, text)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/chat", 400, "model is required"),
        ("/api/generate", 404, "model '' not found"),
        ("/api/embed", 404, "model '' not found"),
        ("/api/embeddings", 400, "model is required"),
        ("/api/show", 400, "model is required"),
    ],
)
async def test_no_model_at_all(host: Host, path: str, status: int, text: str) -> None:
    """server/routes.go, writeModelRefParseError."""
    got = await host.post(path, {})
    assert (got.status, got.error) == (status, text)


@pytest.mark.parametrize("name", ["gpt-oss:cloud", "gpt-oss:120b-cloud"])
async def test_cloud_models_are_forbidden_where_there_is_no_cloud(host: Host, name: str) -> None:
    """internal/cloud, with OLLAMA_NO_CLOUD."""
    got = await host.post("/api/chat", {"model": name, "messages": USER})
    assert (got.status, got.error) == (
        403,
        "ollama cloud is disabled: remote model is unavailable",
    )


@pytest.mark.parametrize("value", [5, [1], {"a": 1}])
async def test_embed_takes_a_string_or_strings(host: Host, value: object) -> None:
    """server/routes.go, EmbedHandler: looked at before the model."""
    got = await host.post("/api/embed", {"model": "nope", "input": value})
    assert (got.status, got.error) == (400, "invalid input type")


# OpenAI's dialect before a model is looked at


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/chat/completions", b"", 400, "EOF"),
        ("/v1/chat/completions", b"{", 400, "unexpected EOF"),
        ("/v1/chat/completions", b"{}", 400, "[] is too short - 'messages'"),
        (
            "/v1/chat/completions",
            b'{"model":"a","messages":"x"}',
            400,
            (
                f"{MUST}string into Go struct field ChatCompletionRequest.messages of type "
                "[]openai.Message"
            ),
        ),
        (
            "/v1/chat/completions",
            b'{"model":"a","messages":[{"role":1}]}',
            400,
            f"{MUST}number into Go struct field Message.messages.role of type string",
        ),
        (
            "/v1/chat/completions",
            b'{"model":"a","messages":[{"role":"user"}]}',
            400,
            "invalid message content type: <nil>",
        ),
        (
            "/v1/chat/completions",
            b'{"model":"a","messages":[{"role":"user","content":5}]}',
            400,
            "invalid message content type: float64",
        ),
        (
            "/v1/chat/completions",
            b'{"model":"a","messages":[{"role":"user","content":[5]}]}',
            400,
            "invalid message format",
        ),
        (
            "/v1/chat/completions",
            b'{"messages":[{"content":[{"type":"image_url","image_url":{"url":"http://x/y"}}]}]}',
            400,
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            "/v1/chat/completions",
            b'{"messages":[{"content":[{"type":"image_url","image_url":"data:image/gif;x"}]}]}',
            400,
            "invalid image input",
        ),
        (
            "/v1/chat/completions",
            b'{"messages":[{"content":"x"}],"reasoning_effort":"silly"}',
            400,
            (
                'invalid reasoning value: "silly" (must be "minimal", "low", "medium", "high", '
                '"xhigh", "ultra", "max", or "none")'
            ),
        ),
        (
            "/v1/chat/completions",
            b'{"messages":[{"tool_calls":[{"function":{"name":"f","arguments":""}}]}]}',
            400,
            "invalid tool call arguments",
        ),
        (
            "/v1/chat/completions",
            b'{"model":"nope","messages":[{"content":"x"}]}',
            404,
            "model 'nope' not found",
        ),
        ("/v1/completions", b"", 400, "EOF"),
        ("/v1/completions", b"{}", 404, "model '' not found"),
        (
            "/v1/completions",
            b'{"model":"nope","prompt":["a"]}',
            400,
            f"{MUST}array into Go struct field CompletionRequest.prompt of type string",
        ),
        (
            "/v1/completions",
            b'{"model":"nope","prompt":"a","stop":[1]}',
            400,
            "invalid type for 'stop' field: float64",
        ),
        ("/v1/embeddings", b"{}", 400, "invalid input"),
        ("/v1/embeddings", b'{"input":[]}', 400, "invalid input"),
        ("/v1/embeddings", b'{"model":"nope","input":[1,2]}', 400, "invalid input type"),
        (
            "/v1/embeddings",
            b'{"input":"x","encoding_format":"int8"}',
            400,
            "Invalid value for 'encoding_format' = int8. Supported values: ['float', 'base64'].",
        ),
        (
            "/v1/embeddings",
            b'{"model":"nope","input":"x"}',
            404,
            'model "nope" not found, try pulling it first',
        ),
    ],
)
async def test_v1_errors_have_openais_shape(
    host: Host, path: str, body: bytes, status: int, text: str
) -> None:
    """openai/openai.go, NewError; middleware/openai.go."""
    got = await host.post(path, body)
    kind = {400: "invalid_request_error", 404: "not_found_error"}[status]
    error = {"message": text, "type": kind, "param": None, "code": None}
    assert (got.status, got.json) == (status, {"error": error})


async def test_v1_has_no_such_model(host: Host) -> None:
    """middleware/openai.go, RetrieveMiddleware."""
    got = await host.ask("GET", "/v1/models/nope")
    assert (got.status, got.json["error"]["message"]) == (404, "model 'nope:latest' not found")
