"""`/openapi.json`: the API described by the types that it is read and answered by."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from arriero import __version__
from arriero.admin.calls import Endpoint, Nothing

_REF: Final = "#/components/schemas/{name}"
_ERROR: Final = {
    "description": "What went wrong, as OpenAI says it.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": "string"},
                        },
                    }
                },
            }
        }
    },
}
_WHO: Final = {
    "admin": "For administrators.",
    "look": "For administrators and keys that look at everything.",
    "own": "For every key; a user's key sees its own only.",
}


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these endpoints."""
    kinds = {kind for one in endpoints for kind in (one.query, one.body, one.answer) if kind}
    ordered = sorted(kinds - {Nothing}, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    by_kind = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, by_kind, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "arriero: keys and usage", "version": __version__},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    one: Endpoint, schemas: dict[type[msgspec.Struct], Any], components: dict[str, Any]
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": one.summary,
        "description": _WHO[one.access],
        "responses": {"200": {"description": "Done."}, "default": _ERROR},
    }
    parameters = []
    if "{key}" in one.path:
        parameters.append(
            {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
        )
    if one.query is not Nothing:
        fields = components[one.query.__name__]["properties"]
        parameters += [{"name": name, "in": "query", "schema": of} for name, of in fields.items()]
    if parameters:
        told["parameters"] = parameters
    if one.body is not Nothing:
        told["requestBody"] = {"content": {"application/json": {"schema": schemas[one.body]}}}
    if one.answer is not None:
        content = {"application/json": {"schema": schemas[one.answer]}}
        told["responses"]["200"]["content"] = content
    return told
