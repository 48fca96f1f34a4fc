"""What the API reads: each field of LiteLLM's is taken, refused with a way out, or harmless."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.admin.fields import (
    HARMLESS,
    LABELS,
    OURS,
    REFUSED,
    GenerateRequest,
    RegenerateRequest,
    UpdateRequest,
    patch_of,
)
from arriero.admin.keys import NamedKeys
from arriero.admin.reading import read_body, read_query
from arriero.admin.usage import SumsAsked
from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.core.keychange import Patch

# The fields of GenerateKeyRequest, UpdateKeyRequest and RegenerateKeyRequest of LiteLLM 1.106.2
# (litellm/proxy/_types.py).
_NAMES = """
    key key_alias duration models spend max_budget user_id team_id agent_id max_parallel_requests
    metadata tpm_limit rpm_limit budget_duration budget_limits allowed_cache_controls config
    permissions model_max_budget budget_fallbacks model_rpm_limit model_tpm_limit mcp_rpm_limit
    tag_rpm_limit guardrails policies prompts blocked aliases object_permission tpd_limit
    default_estimated_output_tokens default_estimated_output_tokens_per_model budget_id
    end_user_budget_id tags disable_global_guardrails enable_prompt_caching
    throttle_on_budget_exceeded enforced_params allowed_routes allowed_passthrough_routes
    denied_passthrough_routes allowed_vector_store_indexes rpm_limit_type tpm_limit_type
    router_settings access_group_ids soft_budget send_invite_email key_type auto_rotate
    rotation_interval organization_id project_id temp_budget_increase temp_budget_expiry new_key
    new_master_key grace_period
"""
LITELLM = _NAMES.split()
NOTHING: list[Any] = [None, False, 0, 0.0, "", [], {}]


PAGE = (Path(__file__).parents[2] / "docs/keys.md").read_text()


def rows_of(heading: str) -> dict[str, str]:
    """Return what a table of the page says of each field."""
    section = PAGE.partition(f"### {heading}")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE)
    return {name: said for names, said in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_page_says_what_is_refused_in_the_same_words() -> None:
    assert rows_of("Fields that are refused") == REFUSED


def test_the_page_says_what_is_taken() -> None:
    taken = rows_of("Fields that are taken")
    assert taken.keys() == {*RegenerateRequest.__struct_fields__, *HARMLESS}


def read(**fields: Any) -> GenerateRequest:
    return read_body(GenerateRequest, json.dumps(fields).encode())


def test_every_field_of_litellms_has_a_place() -> None:
    taken = {*RegenerateRequest.__struct_fields__} - {*OURS}
    assert taken | REFUSED.keys() | HARMLESS.keys() == set(LITELLM)
    assert not taken & REFUSED.keys()
    assert set(LABELS) <= taken


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_would_be_lost_is_refused_with_a_way_out(name: str) -> None:
    for value in (1, 0.5, True, "x", ["x"], {"x": 1}):
        for kind in (GenerateRequest, UpdateRequest, RegenerateRequest):
            with pytest.raises(UnsupportedParameter) as error:
                read_body(kind, json.dumps({name: value}).encode())
            assert error.value.param == name
            assert error.value.hint


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_means_nothing_is_let_through(name: str) -> None:
    for value in NOTHING:
        assert patch_of(read(**{name: value})) == Patch()


def test_a_field_with_one_meaning_may_have_it() -> None:
    assert patch_of(read(rpm_limit_type="best_effort_throughput", tpm_limit_type=None)) == Patch()
    with pytest.raises(UnsupportedParameter) as error:
        read(tpm_limit_type="dynamic")
    assert error.value.param == "tpm_limit_type"


def test_a_misspelt_field_is_not_lost() -> None:
    with pytest.raises(BadRequest) as error:
        read(rpm_limits=5)
    assert (error.value.param, error.value.hint) == ("rpm_limits", "did you mean `rpm_limit`?")
    with pytest.raises(BadRequest, match="there is no field"):
        read_body(NamedKeys, b'{"max_budget": null}')


def test_a_whole_object_with_defaults_as_clients_send_it() -> None:
    empty = {"aliases": {}, "config": {}, "spend": 0, "permissions": {}, "max_budget": None,
             "allowed_cache_controls": [], "model_max_budget": {}, "guardrails": None}  # fmt: skip
    assert patch_of(read(**empty, models=[], metadata={})) == Patch(models=(), metadata=b"")


@pytest.mark.parametrize(
    ("routes", "operations"),
    [
        (["/chat/completions", "/v1/embeddings", "/v1/chat/completions"], ("chat", "embedding")),
        (["llm_api_routes"], ()),
        ([], ()),
        (None, ()),
    ],
)
def test_routes_become_operations(routes: list[str] | None, operations: tuple[str, ...]) -> None:
    assert patch_of(read(allowed_routes=routes)).operations == operations


@pytest.mark.parametrize(
    ("kind", "role"),
    [("default", "user"), ("llm_api", "user"), ("management", "admin"), ("read_only", "read_only")],
)
def test_a_kind_of_key_becomes_a_role(kind: str, role: str) -> None:
    assert patch_of(read(key_type=kind)).role == role


def test_nobody_can_ask_by_a_misspelt_filter() -> None:
    with pytest.raises(BadRequest) as error:
        read_query(SumsAsked, {"modeel": "llama"})
    assert (error.value.param, error.value.hint) == ("modeel", "did you mean `model`?")
    with pytest.raises(BadRequest) as error:
        read_query(SumsAsked, {"limit": "many"})
    assert error.value.param == "limit"
    with pytest.raises(BadRequest) as error:
        read_query(SumsAsked, {"start_date": "yesterday"})
    assert error.value.param == "start_date"


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(LITELLM + list(OURS)), documents, max_size=5))
def test_any_fields_are_read_or_refused_by_name(fields: dict[str, Any]) -> None:
    refused = ""
    try:
        patch_of(read(**fields))
    except BadRequest as error:
        refused = str(error.param)
    assert not refused or refused.partition("[")[0].partition(".")[0] in fields


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read_body(GenerateRequest, body)
    except BadRequest:
        return
    assert isinstance(json.loads(body.strip(b" \t\r\n") or b"{}"), dict)
