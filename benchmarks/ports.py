"""Free loopback ports, and waiting for somebody to answer on them."""

import socket
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

from benchmarks.process import Server

POLL_S = 0.004


class NotReady(Exception):
    """A server did not answer in time, or ended."""


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago; all are held at once, so that they differ."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()


def ask(
    port: int, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Ask once on a fresh connection; raises OSError or HTTPException as http.client does."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def wait_for_200(
    server: Server, port: int, question: tuple[str, str | None, Mapping[str, str]], limit_s: float
) -> float:
    """Ask again and again until the answer is 200; return the seconds since the start."""
    path, body, headers = question
    heard = "no connection"
    while time.monotonic() - server.started_at < limit_s:
        if not server.alive:
            raise NotReady(f"it ended with code {server.exit_code} before it was ready")
        try:
            status, text = ask(port, path, body, headers)
        except (OSError, HTTPException) as problem:
            heard = f"{type(problem).__name__}"
        else:
            if status == 200:
                return time.monotonic() - server.started_at
            heard = f"{status} {text[:160]!r}"
        time.sleep(POLL_S)
    raise NotReady(f"not ready after {limit_s:.0f} s; last answer: {heard}")
