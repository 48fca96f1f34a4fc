"""Options that belong together, written down once for all commands that take them.

Typer makes an option of each parameter of a function. A parameter whose type is an `OptionGroup`
stands for the options that are the fields of the group, in their place.
"""

import functools
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, get_type_hints

import msgspec


class OptionGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Options; each field is annotated as a parameter of a command is, and has a default."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as Typer is to see it, with groups taken apart."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    parameters: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _parameters_of(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(command)
    def taken_apart(**given: Any) -> None:
        for name, group in groups.items():
            fields = {field: given.pop(field) for field in group.__struct_fields__}
            given[name] = group(**fields)
        command(**given)

    # What Typer looks at; `wraps` has told it of the command's own.
    shown = signature(command).replace(parameters=parameters)
    taken_apart.__signature__ = shown  # type: ignore[attr-defined]  # as inspect documents it
    taken_apart.__annotations__ = {one.name: one.annotation for one in parameters}
    return taken_apart


def _is_group(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, OptionGroup)


def _parameters_of(group: type[OptionGroup]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in msgspec.structs.fields(group)
    ]
