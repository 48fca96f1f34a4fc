import json
from pathlib import Path

import pytest
from benchmarks.rig import RigBroken, Target, http_request, nginx_config, parse_wrk

from benchmarks import bodies

WRK = """\
Running 4s test @ http://127.0.0.1:1/v1/chat/completions
  1 threads and 32 connections
BENCH {"requests":1000,"duration_us":4000000,"errors":3,"p50_us":152.0,"p99_us":2220.5}
"""


def test_the_script_s_line_is_found_in_wrk_s_output() -> None:
    found = parse_wrk(WRK)
    assert (found.requests, found.seconds, found.errors) == (1000, 4.0, 3)
    assert (found.p50_ms, found.p99_ms) == (0.152, 2.2205)


def test_without_the_line_the_output_is_shown() -> None:
    with pytest.raises(RigBroken, match="unable to connect"):
        parse_wrk("", "unable to connect to 127.0.0.1")


def test_a_request_is_complete_http() -> None:
    body = bodies.question("¿quién?", stream=True)
    request = http_request(Target(81, {"Authorization": "Bearer k"}), body)
    head, _, rest = request.partition("\r\n\r\n")
    assert head.splitlines()[0] == "POST /v1/chat/completions HTTP/1.1"
    assert "Host: 127.0.0.1:81" in head.splitlines()
    assert "Authorization: Bearer k" in head.splitlines()
    assert f"Content-Length: {len(rest.encode())}" in head.splitlines()
    assert json.loads(rest)["stream"] is True


def test_nginx_answers_every_path_with_the_same_text_as_our_mock() -> None:
    config = nginx_config((81, 82), Path("/somewhere"))
    for path, answer in bodies.answers().items():
        assert f"location = {path} {{ return 200 '{answer}'; }}" in config


def test_no_answer_needs_quoting_in_nginx_s_language() -> None:
    for answer in bodies.answers().values():
        assert not set(answer) & set("'$\\\n")


def test_both_formats_carry_the_same_completion() -> None:
    openai = json.loads(bodies.openai_answer())["choices"][0]["message"]
    assert json.loads(bodies.ollama_answer())["message"] == openai
    assert abs(len(bodies.openai_answer()) - len(bodies.ollama_answer())) < 150


def test_every_chunk_holds_the_marker_once_and_nothing_else_does() -> None:
    pieces = bodies.stream_pieces()
    for name, piece in pieces.items():
        assert piece.count(bodies.MARKER) == name.endswith("-chunk"), name
        assert piece.count("@@") == name.endswith("-chunk"), name
    assert bodies.MARKER not in "".join(bodies.answers().values())
    assert bodies.MARKER not in bodies.question(bodies.order(3, 20), stream=True)


def test_an_order_is_what_the_mock_reads() -> None:
    assert bodies.order(400, 20) == "bench chunks=400 rate=20"
    assert bodies.order(2, 0.01) == "bench chunks=2 rate=0.01"
