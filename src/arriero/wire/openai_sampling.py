"""The fields chat and completions share, and how they become `Sampling`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from arriero.base.errors import BadRequest
from arriero.wire.canonical import Sampling
from arriero.wire.openai_body import ABSENT, Fields, Leftovers, decode_value, note_ignored
from arriero.wire.openai_params import MODEL_OPTIONS

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1

# Integers are taken with a zero fraction too: sliders and spreadsheets send 10.0 and mean 10.
_Small = Meta(ge=-_INT32_MAX, le=_INT32_MAX)
Whole = Annotated[int, _Small] | Annotated[float, _Small]
Positive = Annotated[int, Meta(ge=1, le=_INT32_MAX)] | Annotated[float, Meta(ge=1, le=_INT32_MAX)]
_Seed = (
    Annotated[int, Meta(ge=-_INT64_MAX - 1, le=_INT64_MAX)]
    | Annotated[float, Meta(ge=-(2**53), le=2**53)]
)
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
UserName = Annotated[str, Meta(max_length=512)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
KeepAlive = Whole | str
Stop = str | Annotated[list[str], Meta(max_length=16)]


class StreamOptions(msgspec.Struct):
    """Only usage can be asked for."""

    include_usage: bool | None = None


class SamplingFields(msgspec.Struct, kw_only=True):
    """Sampling as it stands in a body, and again within Ollama's `options`."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Whole | None = None
    min_p: Share | None = None
    seed: _Seed | None = None
    stop: Stop | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Meta(ge=0)] | None = None
    num_predict: Whole | None = None


class TextBody(SamplingFields, kw_only=True):
    """The fields that chat and completions share."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    repetition_penalty: Annotated[float, Meta(ge=0)] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    options: msgspec.Raw = ABSENT
    keep_alive: KeepAlive | None = None
    user: UserName | None = None
    safety_identifier: UserName | None = None

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream is to end with its usage."""
        options = self.stream_options
        return bool(self.stream and options is not None and options.include_usage)


_SAMPLING: msgspec.json.Decoder[SamplingFields] = msgspec.json.Decoder(SamplingFields)
_OPTIONS: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)


def sampling(body: TextBody, leftovers: Leftovers) -> Sampling:
    """Return how to draw tokens; what `options` says counts where the body says nothing."""
    found = _sampling(body, "")
    if body.max_tokens is not None:
        found.max_tokens = integer(body.max_tokens, "max_tokens")
    if body.max_completion_tokens is not None:
        found.max_tokens = integer(body.max_completion_tokens, "max_completion_tokens")
    if found.repeat_penalty is None:
        found.repeat_penalty = body.repetition_penalty
    below = client_options(body.options, leftovers)
    if below is not None:
        _fill(found, below)
    return found


def client_options(options: msgspec.Raw, leftovers: Leftovers) -> Sampling | None:
    """Sort Ollama's `options`: sampling is returned, the rest goes to the leftovers."""
    if options is ABSENT or bytes(options) == b"null":
        return None
    fields = decode_value(_OPTIONS, options, "options")
    found = _sampling(decode_value(_SAMPLING, options, "options"), "options.")
    for name, raw in fields.items():
        if name in MODEL_OPTIONS:
            leftovers.options.setdefault(name, raw)
        elif name not in SamplingFields.__struct_fields__:
            note_ignored(leftovers.ignored, f"options.{name}")
    return found


def keep_alive(value: KeepAlive | None) -> int | str | None:
    """Return `keep_alive` as Ollama takes it: seconds, or a duration such as `5m`."""
    return integer(value, "keep_alive") if isinstance(value, float) else value


def integer(value: float, param: str) -> int:
    """Return a number that has no fraction as an integer. Raises BadRequest."""
    if value != int(value):
        raise BadRequest(f"{param}: expected a whole number, got {value}", param=param)
    return int(value)


def _sampling(fields: SamplingFields, at: str) -> Sampling:
    stop = [fields.stop] if isinstance(fields.stop, str) else fields.stop
    seed, top_k, limit = fields.seed, fields.top_k, fields.num_predict
    if limit is not None:
        limit = integer(limit, f"{at}num_predict")
    return Sampling(
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=None if top_k is None else integer(top_k, f"{at}top_k"),
        min_p=fields.min_p,
        seed=None if seed is None else integer(seed, f"{at}seed"),
        # An empty stop string can match nothing; some forms send one for "none".
        stop=[one for one in stop if one] or None if stop else None,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        repeat_penalty=fields.repeat_penalty,
        max_tokens=limit if limit is not None and limit > 0 else None,
    )


def _fill(found: Sampling, below: Sampling) -> None:
    for name in Sampling.__struct_fields__:
        if getattr(found, name) is None:
            setattr(found, name, getattr(below, name))
