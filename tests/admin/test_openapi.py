"""The description of the API is whole, and is of what the API does."""

import re
from typing import Any

import msgspec
from tests.admin.conftest import Api

from arriero.admin.app import ENDPOINTS
from arriero.admin.openapi import describe
from arriero.server.routes import route_of

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(describe(ENDPOINTS)))


def test_every_call_is_described_and_routed() -> None:
    assert set(DOCUMENT["paths"]) == {one.path for one in ENDPOINTS}
    for one in ENDPOINTS:
        told = DOCUMENT["paths"][one.path][one.method.lower()]
        assert told["summary"], one.path
        route = route_of(one.path)
        assert route is not None, one.path
        assert route.name == "key_api"


def test_every_reference_leads_somewhere() -> None:
    text = msgspec.json.encode(DOCUMENT).decode()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert named
    assert named <= set(DOCUMENT["components"]["schemas"])


def test_parameters_and_limits_are_told() -> None:
    parameters = DOCUMENT["paths"]["/key/list"]["get"]["parameters"]
    (size,) = [one for one in parameters if one["name"] == "size"]
    assert size["schema"]["maximum"] == 100
    (key,) = DOCUMENT["paths"]["/key/{key}/regenerate"]["post"]["parameters"]
    assert (key["in"], key["required"]) == ("path", True)
    body = DOCUMENT["components"]["schemas"]["GenerateRequest"]["properties"]
    assert "rpm_limit" in body
    assert "max_budget" not in body


async def test_it_is_served(api: Api) -> None:
    assert await api.ask("GET", "/openapi.json") == DOCUMENT
