"""Clients that chat without pause while something happens to the gateway, and count failures.

Nothing is forgiven: a client opens a connection, asks, reads the answer to its end and checks it.
Half of the clients keep their connection for the next request, as SDKs do. One case counts apart:
a kept connection that the server closed while it was idle, seen by sending on it and reading not a
single byte. Every HTTP client opens a new one then (RFC 9112, 9.3.1), and so do these, once.
"""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.problems import LabProblem, expect

REQUEST_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 120.0
# Closed before the answer's first byte: what a client sees of an idle connection that went away.
GONE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class Target:
    """Whom to ask, for which model, and with which key."""

    address: str
    model: str
    key: str
    port: int = 4000
    max_tokens: int = 8
    # A stream that has begun cannot go on elsewhere when its host dies; a whole answer can.
    streams: bool = True


@dataclass
class Count:
    """What the clients saw so far."""

    answered: int = 0
    reopened: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)


def body_of(target: Target, number: int, *, stream: bool) -> bytes:
    """Return a short chat's body."""
    question = {"role": "user", "content": f"Say a few words about the number {number}."}
    fields = {"model": target.model, "messages": [question], "stream": stream}
    return json.dumps(fields | {"max_tokens": target.max_tokens}).encode()


def fault_of(status: int, answer: bytes, *, stream: bool) -> str:
    """Return what is wrong with an answer, empty if it is whole."""
    if status != http.client.OK:
        return f"status {status}: {answer[:300]!r}"
    if stream:
        whole = answer.rstrip().endswith(b"data: [DONE]") and b'"error"' not in answer
        return "" if whole else f"a broken stream: ...{answer[-300:]!r}"
    try:
        choice = json.loads(answer)["choices"][0]
    except (ValueError, LookupError, TypeError):
        return f"no answer: {answer[:300]!r}"
    return "" if choice.get("finish_reason") else "an answer without its end"


class Client:
    """One client, in a thread of its own."""

    def __init__(self, target: Target, count: Count, *, keeps: bool) -> None:
        self._target = target
        self._count = count
        self._keeps = keeps
        self._connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event, first: int, pause_s: float) -> None:
        """Ask one thing after the other until told to stop."""
        number = first
        while not stop.is_set():
            self._one(number, stream=self._target.streams and number % 2 == 0)
            number += 1
            stop.wait(pause_s)
        self._close()

    def _one(self, number: int, *, stream: bool) -> None:
        began = time.monotonic()
        try:
            status, answer = self._ask(body_of(self._target, number, stream=stream), number)
            fault = fault_of(status, answer, stream=stream)
        except (OSError, http.client.HTTPException) as error:
            fault = f"{type(error).__name__}: {error}"
            self._close()
        took_s = time.monotonic() - began
        self._count.slowest_s = max(self._count.slowest_s, took_s)
        if fault:
            self._count.failures.append(
                f"{time.strftime('%H:%M:%S')} after {took_s:.2f} s: {fault}"
            )
        else:
            self._count.answered += 1

    def _ask(self, body: bytes, number: int) -> tuple[int, bytes]:
        kept = self._connection is not None
        try:
            return self._exchange(body, number)
        except GONE:
            self._close()
            if not kept:
                raise
            self._count.reopened += 1
            return self._exchange(body, number)

    def _exchange(self, body: bytes, number: int) -> tuple[int, bytes]:
        if self._connection is None:
            host, port = self._target.address, self._target.port
            self._connection = http.client.HTTPConnection(host, port, timeout=REQUEST_TIMEOUT_S)
        headers = {
            "Authorization": f"Bearer {self._target.key}",
            "Content-Type": "application/json",
            "X-Request-Id": f"lab-{number}",
        }
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        response = self._connection.getresponse()
        try:
            answer = response.read()
        except GONE as error:
            raise http.client.IncompleteRead(b"") from error  # it had begun: that is a failure
        if response.will_close or not self._keeps:
            self._close()
        return response.status, answer

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def wait_for_answers(count: Count, more: int) -> None:
    """Wait until so many further requests were answered, or some failed."""
    wanted = count.answered + more
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while count.answered < wanted and not count.failures:
        if time.monotonic() > deadline:
            raise LabProblem(f"{count.answered} answers, {wanted} wanted, within the time")
        time.sleep(0.05)


def expect_none_failed(count: Count) -> None:
    """Raise `CheckFailed` with the first failures, if there are any."""
    shown = "\n".join(count.failures[:5])
    expect(not count.failures, f"{len(count.failures)} of the requests failed:\n{shown}")


@contextmanager
def under_load(
    target: Target, *, clients: int = 6, settle: int = 20, pause_s: float = 0.02
) -> Iterator[Count]:
    """Run clients around what is done inside; at the end none of their requests may have failed.

    `settle` requests are answered before it begins and after it ended, so that it happens amidst.
    """
    count, stop = Count(), threading.Event()
    threads = [
        threading.Thread(
            target=Client(target, count, keeps=index % 2 == 0).run,
            args=(stop, index * 100_000, pause_s),
            daemon=True,
        )
        for index in range(clients)
    ]
    try:
        for thread in threads:
            thread.start()
        wait_for_answers(count, settle)
        expect_none_failed(count)
        yield count
        wait_for_answers(count, settle)
    finally:
        stop.set()
        for thread in threads:
            thread.join(REQUEST_TIMEOUT_S + 5)
    expect_none_failed(count)


def told(count: Count) -> str:
    """Return the count in words."""
    text = f"{count.answered} requests, {len(count.failures)} failed"
    return f"{text}, slowest {count.slowest_s:.2f} s, {count.reopened} idle connections reopened"
