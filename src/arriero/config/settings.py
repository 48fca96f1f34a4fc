"""The internal configuration: frozen settings, whichever vocabulary they were written in.

Times are seconds, sizes are bytes, both say so in their names. Every field here is documented in
docs/configuration.md; a test holds that.

A field's type says what a file may write: the reader takes its keys, ranges and forms from here,
so a new setting is a new field and a documented line. Constructing these structs checks nothing;
`config.load` does.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

BackendKind = Literal["ollama", "openai"]
Strategy = Literal["adaptive", "least-busy", "round-robin", "simple-shuffle"]
Mode = Literal["chat", "completion", "embedding"]
OptionValue = bool | int | float | str | tuple[str, ...]

# `form` names the notation of config/forms.py in which a value may be written besides its plain
# type. The upper bounds are far above any use; they keep a slip of the finger from meaning "never".
Seconds = Annotated[float, Meta(gt=0, le=2_678_400, extra={"form": "duration"})]
SecondsOrOff = Annotated[float, Meta(ge=0, le=2_678_400, extra={"form": "duration"})]
Bytes = Annotated[int, Meta(ge=1024, le=1_099_511_627_776, extra={"form": "size"})]
Url = Annotated[str, Meta(extra={"form": "url"})]
KeepAlive = Annotated[int | str, Meta(extra={"form": "keep-alive"})]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Hosts = Annotated[int, Meta(ge=0, le=1_000_000)]
Retries = Annotated[int, Meta(ge=0, le=16)]
BigCount = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
# RFC 9110, 5.1; a header is looked up by its name in lower case.
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z",
        extra={"words": "the name of an HTTP header"},
    ),
]
# What clients and model servers call a model. `words` complete "must be ..." for people.
ModelName = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^(?!\s)[^\x00-\x1f\x7f]+(?<!\s)\Z",
        extra={"words": "a name of up to 256 characters without blanks at its ends"},
    ),
]
# Backend names are metric labels and stand in log lines.
BackendName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        extra={"words": "a name of up to 64 letters, digits, dots, dashes and underscores"},
    ),
]


class Secret:
    """A string that never shows itself: `repr`, `str` and the effective config print stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret; call it only where it is used."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long each phase of one attempt may take; defaults survive a cold load of minutes.

    `load_s` is granted on top of the phase timeouts while the model is not yet resident on the
    backend that was asked: cancelling a request aborts Ollama's load, so a short timeout with
    retries would never finish one (research A2).
    """

    connect_s: Seconds = 3.0
    load_s: Seconds = 600.0
    first_token_s: Seconds = 300.0
    inter_token_s: Seconds = 120.0
    response_s: Seconds = 1800.0
    total_s: Seconds = 3600.0


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One model server. `name` is what logs and metrics call it; `url` has no trailing slash.

    `slots` is how many requests each of its models may work on at once.
    """

    name: BackendName
    url: Url
    kind: BackendKind = "ollama"
    api_key: Secret | None = None
    connections_max: Count = 1024
    slots: Count | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One place that serves an alias: a backend and the model's name there.

    `slots` overrides the backend's. A model has one number of slots on a backend: where routes of
    several aliases differ, the largest counts. `keep_loaded` keeps the model in memory here.
    """

    backend: BackendName
    model: ModelName
    weight: Weight = 1.0
    slots: Count | None = None
    keep_loaded: bool = False
    timeouts: Timeouts = Timeouts()


class Limits(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How much may be used. None: no limit. Days and months are calendar ones, in UTC."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Tokens | None = None
    concurrent: Count | None = None
    tokens_per_day: BigCount | None = None
    tokens_per_month: BigCount | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One alias: what clients call it, where it runs, and what belongs to it and not to them.

    `context` becomes Ollama's `num_ctx` and is the same on every host, because differing values
    reload the model. `keep_loaded` is on how many of its hosts the model stays in memory without
    being asked for. `digests` says what becomes of hosts with other weights under the same name,
    `overflow` of prompts that are longer than the context. `options` are defaults below what a
    client sends. Capabilities of None mean "ask the backends".
    """

    name: ModelName
    routes: tuple[Route, ...]
    mode: Mode | None = None
    strategy: Strategy | None = None
    retries: Retries | None = None
    context: Tokens | None = None
    keep_alive: KeepAlive | None = None
    keep_loaded: Hosts = 0
    digests: Literal["same", "mixed"] = "same"
    overflow: Literal["refuse", "truncate"] = "refuse"
    max_input_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None
    options: dict[str, OptionValue] = {}
    tools: bool | None = None
    vision: bool | None = None
    thinking: bool | None = None
    unsupported_tools: Literal["drop", "reject"] = "drop"
    client_options: Literal["drop", "allow"] = "drop"
    limits: Limits | None = None


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Certificate and key in PEM files; both are read again when they change."""

    certificate: Text
    key: Text
    reload_check_s: Seconds = 10.0


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The listener and its limits."""

    host: Text = "127.0.0.1"
    port: Port = 4000
    tls: Tls | None = None
    head_bytes_max: Bytes = 65_536
    body_bytes_max: Bytes = 67_108_864
    connections_max: Count = 16_384
    pipelined_requests_max: Count = 16
    header_timeout_s: Seconds = 15.0
    body_idle_timeout_s: Seconds = 30.0
    keep_alive_idle_s: Seconds = 120.0
    write_stall_timeout_s: Seconds = 120.0
    heartbeat_s: Seconds = 10.0
    drain_timeout_s: Seconds = 30.0


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend is chosen, when one or a model on it is left out, and how it comes back.

    A transport failure ejects the backend at once, a timeout the model, an HTTP 5xx the model after
    `failures_max` in a row. The first ejection lasts `ejection_s`, each following one twice as
    long, up to `ejection_max_s`. A loaded model that has not answered for `probe_interval_s` is
    asked for one token; 0 turns that off. A backend that comes back gets its share of the work
    within `slow_start_s`; 0 gives it all at once. A stream whose backend broke off waits up to
    `resume_wait_s` for one to come back that can go on with it.
    """

    strategy: Strategy = "adaptive"
    retries: Retries = 2
    failures_max: Count = 3
    ejection_s: Seconds = 5.0
    ejection_max_s: Seconds = 120.0
    inventory_interval_s: Seconds = 5.0
    inventory_timeout_s: Seconds = 5.0
    probe_interval_s: SecondsOrOff = 120.0
    probe_timeout_s: Seconds = 60.0
    slow_start_s: SecondsOrOff = 30.0
    resume_wait_s: SecondsOrOff = 15.0


class Queueing(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how many requests wait here for a slot of a backend.

    The deadlines are for each priority class. A request that has waited for `ageing_s` moves up to
    the next class, so that nothing waits for ever behind more urgent ones.
    """

    length_max: Count = 4096
    per_principal_max: Count = 1024
    ageing_s: Seconds = 30.0
    interactive_deadline_s: Seconds = 300.0
    default_deadline_s: Seconds = 300.0
    embedding_deadline_s: Seconds = 300.0
    background_deadline_s: Seconds = 300.0
    embedding_batch_max: Count = 32


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call. Without a master key every call is refused.

    A trusted key speaks for many: whom it names in `user_header` is who a request is counted for.
    """

    master_key: Secret | None = None
    master_key_trusted: bool = True
    user_header: HeaderName = "X-OpenWebUI-User-Id"
    metrics_public: bool = False


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """Where keys and usage are kept. Without `url`, a file in the state directory, if there is one.

    `usage_days` is how long single requests are kept; sums by day are kept for ever.
    """

    url: Secret | None = None
    usage_days: Count = 90


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """Where several gateways meet; without `url`, this one is alone.

    Gateways with the same `prefix` on the same server belong together.
    """

    url: Secret | None = None
    prefix: BackendName = "arriero"
    timeout_s: Seconds = 0.25


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The access log: `access` is `stdout`, `stderr`, `off` or a file's path."""

    access: Text = "stdout"
    flush_interval_s: Seconds = 0.5
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one gateway. `digest` is the SHA-256 of the file it came from."""

    backends: tuple[Backend, ...]
    models: tuple[Model, ...]
    server: Server = Server()
    routing: Routing = Routing()
    queue: Queueing = Queueing()
    access: Access = Access()
    store: Store = Store()
    peers: Peers = Peers()
    log: Log = Log()
    digest: str = ""
