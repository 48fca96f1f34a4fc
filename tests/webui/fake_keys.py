"""A gateway with LiteLLM's key API before an arriero, for what arriero alone cannot show."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class KeyGateway:
    """Keys by their alias; whatever is no call of the key API goes on to the gateway behind."""

    behind: str
    master: str
    keys: dict[str, str] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    made: int = 0
    seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        if "no_database" in self.faults:
            return 500, {"error": {"message": "DB not connected", "type": "x", "code": "500"}}
        if path.startswith("/key/list"):
            return 200, {"keys": list(self.keys), "total_count": len(self.keys)}
        if path == "/key/generate":
            if body["key_alias"] in self.keys:
                words = "Key with alias already exists"
                return 400, {"error": {"message": words, "type": "x", "code": "400"}}
            self.made += 1
            self.keys[body["key_alias"]] = f"sk-virtual-{self.made:08d}"
            return 200, {"key": self.keys[body["key_alias"]], "key_alias": body["key_alias"]}
        gone = [alias for alias in body["key_aliases"] if self.keys.pop(alias, None)]
        return 200, {"deleted_keys": gone}


class Handler(BaseHTTPRequestHandler):
    """Answers for the gateway that `running` gives it."""

    gateway: KeyGateway

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.serve(b"")

    def do_POST(self) -> None:
        self.serve(self.rfile.read(int(self.headers["Content-Length"])))

    def serve(self, body: bytes) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        own = self.gateway
        if self.path.startswith("/key/") and key == own.master:
            status, document = own.answer(self.path, json.loads(body or b"{}"))
            return self.reply(status, json.dumps(document).encode())
        if self.path.endswith("/chat/completions"):
            own.seen.append({name.lower(): value for name, value in self.headers.items()})
        known = key in own.keys.values()
        sent = {"Authorization": f"Bearer {own.master if known else key}"}
        sent["Content-Type"] = "application/json"
        behind = http.client.HTTPConnection(own.behind.removeprefix("http://"), timeout=20)
        try:
            behind.request(self.command, self.path, body or None, sent)
            answer = behind.getresponse()
            return self.reply(answer.status, answer.read())
        finally:
            behind.close()

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def running(behind: str, master: str) -> Iterator[KeyGateway]:
    """Serve it on a free port of this machine while the block runs."""
    gateway = KeyGateway(behind, master)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"gateway": gateway}))
    server.daemon_threads = False
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
