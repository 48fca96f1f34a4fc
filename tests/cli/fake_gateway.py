"""A tiny OpenAI-compatible gateway whose faults can be switched on, for tests of `arriero smoke`.

It is made of the standard library's server, in threads: nothing of it is shared with the product.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-a-good-key-0123456789"
USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


@dataclass
class Gateway:
    """What the fake does, and how it misbehaves; tests change it while it runs."""

    aliases: list[str] = field(default_factory=lambda: ["phi3", "nomic-embed-text"])
    served: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    in_flight: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    faults: set[str] = field(default_factory=set)
    turn: int = 0
    uptime_s: float = 5.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def lease(self) -> None:
        with self.lock:
            hosts = ["a"] if "one_backend_only" in self.faults else sorted(self.served)
            self.served[hosts[self.turn % len(hosts)]] += 1
            self.turn += 1

    def away(self, name: str) -> bool:
        """Say whether a backend is ejected: for good, or until somebody's request went there."""
        unasked = f"{name}_unasked" in self.faults and not self.served[name]
        return unasked or f"{name}_ejected" in self.faults

    def status(self) -> dict[str, Any]:
        with self.lock:
            self.uptime_s += -5 if "restart" in self.faults else 1
            backends = [
                {
                    "name": name,
                    "kind": "ollama",
                    "state": "ejected" if self.away(name) else "available",
                    "in_flight": self.in_flight[name],
                    "served": served,
                    "version": "0.12.0",
                    "models": None if "no_inventory" in self.faults else ["phi3:3.8b"],
                    "loaded": [] if f"{name}_cold" in self.faults else ["phi3:3.8b"],
                }
                for name, served in self.served.items()
            ]
        targets = [
            {
                "backend": name,
                "model": "phi3:3.8b",
                "available": f"{name}_ejected" not in self.faults,
            }
            for name in self.served
        ]
        return {
            "version": "0.1.0",
            "config_digest": "c0ffee",
            "uptime_s": self.uptime_s,
            "ready": "not_ready" not in self.faults,
            "backends": backends,
            "models": [{"name": name, "targets": targets} for name in self.aliases],
        }

    def residency(self) -> dict[str, Any]:
        """Answer as an Ollama behind the gateway would: its expiry moves with what it served."""
        second = 0 if "backend_untouched" in self.faults else sum(self.served.values())
        moment = f"2030-01-01T00:{second // 60:02d}:{second % 60:02d}.123456789+01:00"
        return {"models": [{"name": "phi3:3.8b", "expires_at": moment}]}


def error(message: str, code: str) -> dict[str, Any]:
    return {
        "error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}
    }


class Handler(BaseHTTPRequestHandler):
    """Answers for the gateway that `running` gives it."""

    gateway: Gateway

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: object, kind: str = "application/json") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        cut = "broken_off" in self.gateway.faults and b"chat.completion" in content
        self.send_header("Content-Length", str(len(content) + (9 if cut else 0)))
        self.end_headers()
        self.wfile.write(content)

    def authorized(self) -> bool:
        if "open" in self.gateway.faults:
            return True
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        if "no_401" in self.gateway.faults:
            self.reply(500, {"error": "No module named 'prisma'"})
        elif "plain_401" in self.gateway.faults:
            self.reply(401, {"detail": "no"})
        else:
            self.reply(401, error(f"not {self.headers.get('Authorization')}", "invalid_api_key"))
        return False

    def do_GET(self) -> None:
        if self.path == "/health/liveliness":
            self.reply(200, {})
        elif self.path == "/health/readiness":
            self.reply(503 if "not_ready" in self.gateway.faults else 200, {})
        elif self.path == "/api/ps":
            self.reply(200, self.gateway.residency())
        elif self.path == "/metrics" and "open_metrics" in self.gateway.faults:
            self.reply(200, b"up 1\n", "text/plain")
        elif self.authorized():
            self.get_behind_the_key()

    def get_behind_the_key(self) -> None:
        if self.path == "/v1/models":
            models = [{"id": name, "object": "model"} for name in self.gateway.aliases]
            self.reply(200, {"object": "list", "data": models})
        elif self.path == "/arriero/status" and "not_arriero" not in self.gateway.faults:
            self.reply(200, self.gateway.status())
        else:
            self.reply(404, error("no such path", "unknown_url"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.authorized():
            return
        if body["model"] not in self.gateway.aliases:
            self.reply(404, error("no such model", "model_not_found"))
        elif self.path == "/v1/embeddings":
            vector = [0.0, 0.0] if "zeros" in self.gateway.faults else [0.5, 0.25]
            item = {"object": "embedding", "index": 0, "embedding": vector}
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            answer = {"object": "list", "data": [item], "model": body["model"], "usage": usage}
            self.reply(200, answer)
        elif "chat_fails" in self.gateway.faults:
            self.reply(503, error("every backend is down", "no_backend_available"))
        else:
            self.gateway.lease()
            name = "phi3:3.8b" if "shows_model" in self.gateway.faults else body["model"]
            if body.get("stream"):
                self.reply(200, stream(self.gateway, name), "text/event-stream; charset=utf-8")
            else:
                self.reply(200, chat(self.gateway, name))


def chat(gateway: Gateway, name: str) -> dict[str, Any]:
    text = "" if "empty" in gateway.faults else "Hello"
    usage = USAGE if text else USAGE | {"completion_tokens": 0}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": usage,
    }


def stream(gateway: Gateway, name: str) -> bytes:
    faults = gateway.faults

    def event(number: int, choices: list[Any], **more: object) -> bytes:
        own = f"chatcmpl-{number if 'many_ids' in faults else 1}"
        chunk = {"id": own, "object": "chat.completion.chunk", "model": name, "choices": choices}
        return b"data: " + json.dumps(chunk | more).encode() + b"\n\n"

    parts = [
        event(0, [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]),
        b": still here\n\n",
        event(1, [{"index": 0, "delta": {"content": "lo"}}]),
        event(2, [{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        b"" if "no_usage" in faults else event(3, [], usage=USAGE),
        b"" if "no_done" in faults else b"data: [DONE]\n\n",
    ]
    if "dies_in_stream" in faults:
        parts[3:] = [b"data: " + json.dumps(error("the backend died", "backend_failed")).encode()]
        parts.append(b"\n\n")
    return b"".join(parts)


class Server(ThreadingHTTPServer):
    """Threads that are waited for, and room for a burst: a backlog of 5 costs a second."""

    daemon_threads = False
    request_queue_size = 128


@contextmanager
def running(**settings: Any) -> Iterator[Gateway]:
    """Serve a fake gateway on a free port of this machine while the block runs."""
    gateway = Gateway(**settings)
    server = Server(("127.0.0.1", 0), type("Own", (Handler,), {"gateway": gateway}))
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
