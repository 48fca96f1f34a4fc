import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab.load import Target, body_of, fault_of, told, under_load
from lab.problems import CheckFailed

WHOLE = json.dumps({"choices": [{"finish_reason": "stop", "message": {}}]}).encode()
STREAM = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'


class Gateway(http.server.ThreadingHTTPServer):
    """Answers chats; `breaks` of them are broken off, and connections close after `closes`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.breaks = 0
        self.refuses = 0
        self.keeps = True


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = STREAM if body["stream"] else WHOLE
        status = 200
        if self.server.refuses:
            self.server.refuses -= 1
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            self.wfile.write(text[:5])
            self.close_connection = True
            return
        self.wfile.write(text)
        # Closed without a word: what an idle connection's end looks like to a client.
        self.close_connection = not self.server.keeps

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@contextmanager
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def target(server: Gateway) -> Target:
    return Target("127.0.0.1", "alias", "sk-key", port=server.server_address[1])


def test_requests_go_on_around_what_is_done() -> None:
    with gateway() as server, under_load(target(server), clients=3, settle=5) as count:
        before = count.answered
        assert before >= 5
    assert count.answered >= before + 5
    assert "0 failed" in told(count)


@pytest.mark.parametrize("kind", ["breaks", "refuses"])
def test_one_broken_answer_fails_the_step(kind: str) -> None:
    with (
        gateway() as server,
        pytest.raises(CheckFailed, match="1 of the requests failed"),
        under_load(target(server), clients=1, settle=3),
    ):
        setattr(server, kind, 1)


def test_an_idle_connection_that_went_away_is_no_failure() -> None:
    with gateway() as server:
        server.keeps = False
        with under_load(target(server), clients=2, settle=6) as count:
            pass
    assert count.reopened > 0
    assert not count.failures


def test_nobody_there_is_a_failure() -> None:
    with gateway() as server:
        gone = target(server)
    with (
        pytest.raises(CheckFailed, match="ConnectionRefusedError"),
        under_load(gone, clients=1, settle=1),
    ):
        raise AssertionError("it must not begin")


@pytest.mark.parametrize(
    ("answer", "stream", "good"),
    [
        (WHOLE, False, True),
        (STREAM, True, True),
        (b'data: {"error":{"message":"x"}}\n\ndata: [DONE]\n\n', True, False),
        (b'data: {"choices":[]}\n\n', True, False),
        (b'{"choices":[]}', False, False),
        (b'{"choices":[{"finish_reason":null}]}', False, False),
        (b"[]", False, False),
        (b"<html>", False, False),
    ],
)
def test_what_counts_as_a_whole_answer(answer: bytes, *, stream: bool, good: bool) -> None:
    assert (fault_of(200, answer, stream=stream) == "") is good


def test_a_status_other_than_200_is_a_fault() -> None:
    assert "429" in fault_of(429, WHOLE, stream=False)


def test_the_question_names_the_model() -> None:
    body = json.loads(body_of(Target("x", "alias", "key"), 7, stream=True))
    assert (body["model"], body["stream"]) == ("alias", True)
