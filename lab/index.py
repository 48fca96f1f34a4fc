"""A package index for the lab's hosts, which reach no other: the Simple API over gathered wheels.

`pip` asks `/simple/NAME/` for links (https://packaging.python.org/specifications/simple-repository-api/)
and fetches what it chooses. The wheels are those that the machine's own index gave by hash.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.hosts import CONTROL_ADDRESS


@dataclass
class Index:
    """An index that is up: its address, and the wheels that were fetched from it."""

    host: str
    port: int
    fetched: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What pip calls an index's URL."""
        return f"http://{self.host}:{self.port}/simple/"

    @property
    def pip_settings(self) -> str:
        """What a host's /etc/pip.conf says of it."""
        return f"[global]\nindex_url = {self.url}\ntrusted-host = {self.host}\n"


def project_of(wheel: str) -> str:
    """Return the normalised name of a wheel's project."""
    return re.sub(r"[-_.]+", "-", wheel.partition("-")[0]).lower()


def page(wheels: list[str]) -> bytes:
    """Return a project's page: a link to each of its wheels."""
    links = "".join(f'<a href="/files/{escape(name)}">{escape(name)}</a>\n' for name in wheels)
    return f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n".encode()


@contextmanager
def index_of(folder: Path, *, without: str, host: str = CONTROL_ADDRESS) -> Iterator[Index]:
    """Serve a folder's wheels, but for one project, while the block runs."""
    wheels = {path.name: path for path in folder.glob("*.whl") if project_of(path.name) != without}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, name = self.path.strip("/").partition("/")
            listed = [wheel for wheel in wheels if project_of(wheel) == name]
            if kind == "simple" and listed:
                self._answer(page(sorted(listed)), "text/html")
            elif kind == "files" and name in wheels:
                index.fetched.add(name)
                self._answer(wheels[name].read_bytes(), "application/octet-stream")
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: what was fetched is in the transcript of the step."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        index = Index(host, server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
