"""From the bytes of a call to what it says, with an error that names what is wrong."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from arriero.admin.fields import HARMLESS, REFUSED, KeyFields, masked
from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.config.suggest import hint
from arriero.wire.openai_body import decode_value

StructT = TypeVar("StructT", bound=msgspec.Struct)

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BLANKS: Final = b" \t\r\n"  # RFC 8259, 2
_MEANS_NOTHING: Final[tuple[object, ...]] = (None, False, 0, "", [], {})


def read_body(kind: type[StructT], body: bytes) -> StructT:
    """Return a body's fields. Raises BadRequest, UnsupportedParameter."""
    body = body if body.strip(_BLANKS) else b"{}"
    given = decode_value(_FIELDS, body, "")
    known = kind.__struct_fields__
    for name, raw in given.items():
        if name in known:
            continue
        _check_unknown(name, raw, known if issubclass(kind, KeyFields) else (), known)
    return decode_value(msgspec.json.Decoder(kind), body, "")


def read_query(kind: type[StructT], query: Mapping[str, str]) -> StructT:
    """Return the parameters of a query; an empty one counts as left out. Raises BadRequest.

    An unknown one is refused: without the filter that somebody misspelt, a list is another list.
    """
    given = {name: value for name, value in query.items() if value}
    for name in given:
        if name not in kind.__struct_fields__:
            raise BadRequest(
                f"there is no parameter {masked(name)!r} here",
                param=masked(name),
                hint=hint(name, kind.__struct_fields__),
            )
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        raise BadRequest(f"{name}: {what[:1].lower()}{what[1:]}", param=name) from None


def _check_unknown(
    name: str, raw: msgspec.Raw, of_keys: tuple[str, ...], known: tuple[str, ...]
) -> None:
    value = decode_value(msgspec.json.Decoder(), raw, masked(name))
    # 0 == False and 0.0 == 0, which all mean nothing.
    if of_keys and name in REFUSED:
        if value in _MEANS_NOTHING:
            return
        raise UnsupportedParameter(f"keys have no {name} here", param=name, hint=REFUSED[name])
    if of_keys and name in HARMLESS:
        if value is None or value == HARMLESS[name]:
            return
        raise UnsupportedParameter(
            f"{name} has one meaning here", param=name, hint=f"{HARMLESS[name]}, or leave it out"
        )
    raise BadRequest(
        f"there is no field {masked(name)!r} here", param=masked(name), hint=hint(name, known)
    )
