"""From a body's bytes to a struct of known fields, and the fate of all others.

The common body holds known fields only and is decoded once, by a decoder that refuses unknown
ones; only when that fails is the body read again as raw fields to apply the parameter policy or
to say precisely what is wrong. As measured, the one decoding takes 0.8 µs for three messages and
15 µs for 19 KB of tools; a request with a parameter of no known field takes twice as long in all.
"""

import re
from typing import Generic, TypeVar

import msgspec

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.wire.openai_params import MODEL_OPTIONS, Operation, Policy, Rule, rules_for

BodyT = TypeVar("BodyT", bound=msgspec.Struct)
ValueT = TypeVar("ValueT")
Fields = dict[str, msgspec.Raw]

ABSENT = msgspec.Raw(b"")  # the default of raw fields; a client cannot send it

_IGNORED_NAMES_MAX = 32
_NAME_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`$")
_FIELDS: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)


class Leftovers(msgspec.Struct):
    """What a body held beside its known fields: Ollama options, and names that were dropped."""

    options: Fields = {}
    ignored: list[str] = []


class BodySchema(Generic[BodyT]):
    """The known fields of one operation's body, with both ways to decode them."""

    def __init__(self, operation: Operation, body: type[BodyT]) -> None:
        strict = msgspec.defstruct(
            f"Strict{body.__name__}", [], bases=(body,), forbid_unknown_fields=True
        )
        self._strict: msgspec.json.Decoder[BodyT] = msgspec.json.Decoder(strict)
        self._lenient: msgspec.json.Decoder[BodyT] = msgspec.json.Decoder(body)
        self._known = frozenset(body.__struct_fields__)
        self._rules = rules_for(operation)

    def decode(self, body: bytes) -> tuple[BodyT, Leftovers]:
        """Return the known fields and the leftovers. Raises BadRequest, and nothing else."""
        if not body.isascii():
            _check_utf8(body)  # raw values are passed on unread, and have to be UTF-8 too
        try:
            return self._strict.decode(body), Leftovers()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._decode_slowly(body)

    def _decode_slowly(self, body: bytes) -> tuple[BodyT, Leftovers]:
        fields = decode_value(_FIELDS, body, "")
        leftovers = self._screen(fields)
        return decode_value(self._lenient, body, ""), leftovers

    def _screen(self, fields: Fields) -> Leftovers:
        leftovers = Leftovers()
        for name, raw in fields.items():
            if name in self._known or bytes(raw) == b"null":
                continue
            rule = self._rules.get(name)
            if rule is None or rule.policy is Policy.IGNORE:
                note_ignored(leftovers.ignored, name)
            elif rule.policy is Policy.REFUSE:
                _refuse(rule, raw)
            else:
                assert name in MODEL_OPTIONS
                leftovers.options[name] = raw
        return leftovers


def decode_value(
    decoder: msgspec.json.Decoder[ValueT], raw: bytes | msgspec.Raw, at: str
) -> ValueT:
    """Decode a piece of a body that stands at the path `at`. Raises BadRequest."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), at) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"The request body is not valid JSON: {error}", param=at or None, hint=_json_hint(raw)
        ) from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply", param=at or None) from None


def note_ignored(ignored: list[str], name: str) -> None:
    """Add a name to those that are told in a header, which makes it a stranger's header text."""
    told = name if _NAME_SAFE.fullmatch(name) else "(unprintable)"
    if len(ignored) < _IGNORED_NAMES_MAX and told not in ignored:
        ignored.append(told)


def join_path(at: str, path: str) -> str:
    """Return the path of `path` below `at`, in OpenAI's style: `messages[0].content`."""
    if not at or not path:
        return at or path
    return f"{at}{path}" if path.startswith("[") else f"{at}.{path}"


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not UTF-8 (byte {error.start})") from None


def _json_hint(raw: bytes | msgspec.Raw) -> str | None:
    # msgspec calls half a surrogate pair "truncated", which sends people looking elsewhere.
    # JavaScript makes them by cutting a string in the middle of an emoji.
    if b"\\ud" in bytes(raw).lower():
        return "escapes from \\ud800 to \\udfff are text only in pairs"
    return None


def _invalid(text: str, at: str) -> BadRequest:
    found = _AT.match(text)
    assert found is not None
    what, path = found["what"], join_path(at, found["path"] or "")
    missing = _MISSING.match(what)
    if missing:
        param = join_path(path, missing[1])
        return BadRequest(f"{param} is required", param=param)
    if not path:
        return BadRequest(f"The request body has to be a JSON object: {_lower(what)}")
    return BadRequest(f"{path}: {_lower(what)}", param=path)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _refuse(rule: Rule, raw: msgspec.Raw) -> None:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None  # no harmless value looks like that
    # `True == 1`, but `"n": true` is no way to ask for one answer.
    if any(value == one and type(value) is type(one) for one in rule.harmless):
        return
    raise UnsupportedParameter(f"{rule.name} is not supported", param=rule.name, hint=rule.reason)
