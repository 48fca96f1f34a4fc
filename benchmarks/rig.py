"""The rig: the two mocks, the two load generators, and the two cores they run on."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bodies, install, process
from benchmarks.gateways import CHAT
from benchmarks.paths import NATIVE
from benchmarks.ports import ask, free_ports, wait_for_200
from benchmarks.process import Server

FILES_WANTED = 16_384
FILES_NEEDED = 4_096


class RigBroken(Exception):
    """The rig itself failed: no figure of this measurement means anything."""


@dataclass(frozen=True)
class Cores:
    """The gateway's core and the core of everything else."""

    gateway: int
    load: int


@dataclass(frozen=True)
class Tools:
    """The programs of the rig."""

    nginx: Path
    wrk: Path
    streammock: Path
    streamload: Path
    versions: Mapping[str, str]


def find_tools() -> Tools:
    """Install or compile what the rig is made of; without it there is no run."""
    nginx, wrk = install.debian_package("nginx"), install.debian_package("wrk")
    mock, load = install.c_program("streammock"), install.c_program("streamload")
    versions = {"nginx": nginx.version, "wrk": wrk.version}
    return Tools(nginx.program, wrk.program, mock.program, load.program, versions)


def allow_many_files() -> None:
    """Raise the limit of open files: a thousand streams are two thousand of a gateway's."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if limit < FILES_NEEDED:
        raise RigBroken(f"only {hard} open files are allowed (hint: ulimit -Hn {FILES_WANTED})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@dataclass(frozen=True)
class Mock:
    """One running mock and its two addresses."""

    server: Server
    ports: tuple[int, int]


def nginx_config(ports: tuple[int, int], folder: Path) -> str:
    """Return the configuration of the mock for requests that are not streamed."""
    locations = "\n".join(
        f"        location = {path} {{ return 200 '{answer}'; }}"
        for path, answer in bodies.answers().items()
    )
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    default_type application/json;
{temporary}
    server {{
        listen 127.0.0.1:{ports[0]} backlog=4096;
        listen 127.0.0.1:{ports[1]} backlog=4096;
{locations}
    }}
}}
"""


class Rig:
    """Starts mocks and runs loads, all on the load core."""

    def __init__(self, tools: Tools, cores: Cores, folder: Path) -> None:
        self.tools = tools
        self.cores = cores
        self.folder = folder
        # Logs of the run before would be read for this one's.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.sched_setaffinity(0, {cores.load})

    def _start(self, argv: list[str], ports: tuple[int, int], name: str) -> Mock:
        log = self.folder / f"{name}.log"
        server = process.start(argv, core=self.cores.load, log=log, env={}, folder=self.folder)
        try:
            for port in ports:
                wait_for_200(server, port, ("/api/version", None, {}), 10)
        except BaseException:
            server.stop()
            raise
        return Mock(server, ports)

    def start_nginx(self) -> Mock:
        """Start the mock that answers whole."""
        ports = _two_ports()
        config = self.folder / "nginx.conf"
        config.write_text(nginx_config(ports, self.folder))
        argv = [str(self.tools.nginx), "-c", str(config), "-p", str(self.folder)]
        return self._start([*argv, "-e", "stderr"], ports, "nginx")

    def start_streammock(self) -> Mock:
        """Start the mock that streams."""
        ports = _two_ports()
        lines = {**bodies.answers(), **bodies.stream_pieces()}
        answers = self.folder / "answers.txt"
        answers.write_text("".join(f"{name} {text}\n" for name, text in lines.items()))
        argv = [str(self.tools.streammock), str(answers), *map(str, ports)]
        return self._start(argv, ports, "streammock")

    def wrk(
        self, target: "Target", connections: int, seconds: float, delay_ms: int = 0
    ) -> "WrkResult":
        """Load with requests that are not streamed; nothing else of ours runs meanwhile.

        `delay_ms` is how long a connection rests before each request, on average.
        """
        env = {
            **os.environ,
            "BENCH_DELAY_MS": str(delay_ms),
            "BENCH_BODY": bodies.question("Who counts the animals?", stream=False),
            "BENCH_HEADERS": "\n".join(f"{name}: {text}" for name, text in target.headers.items()),
        }
        script = str(NATIVE / "chat.lua")
        duration = f"{max(1, round(seconds))}s"
        argv = [str(self.tools.wrk), "-t1", f"-c{connections}", f"-d{duration}", "--timeout", "60s"]
        url = f"http://127.0.0.1:{target.port}{CHAT}"
        done = subprocess.run(
            [*argv, "-s", script, url],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds + 90,
            check=False,
        )
        return parse_wrk(done.stdout, done.stderr)

    def streamload(
        self, target: "Target", order: str, options: Mapping[str, float]
    ) -> "subprocess.Popen[str]":
        """Start the streaming client; `measure.Streams` talks to it."""
        request = self.folder / "request.http"
        request.write_text(http_request(target, bodies.question(order, stream=True)))
        words = [f"{name}={value:g}" for name, value in options.items()]
        argv = [str(self.tools.streamload), f"port={target.port}", f"request={request}"]
        return subprocess.Popen(
            [*argv, f"marker={bodies.MARKER}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def _two_ports() -> tuple[int, int]:
    first, second = free_ports(2)
    return first, second


@dataclass(frozen=True)
class Target:
    """What is loaded: a gateway or, directly, a mock."""

    port: int
    headers: Mapping[str, str]


def http_request(target: Target, body: str) -> str:
    """Return a whole HTTP request for the streaming client."""
    headers = {"Host": f"127.0.0.1:{target.port}", **target.headers}
    headers["Content-Length"] = str(len(body.encode()))
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    return f"POST {CHAT} HTTP/1.1\r\n{head}\r\n{body}"


@dataclass(frozen=True)
class WrkResult:
    """What wrk saw; times in milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float


def parse_wrk(output: str, words: str = "") -> WrkResult:
    """Read the line that chat.lua prints at the end."""
    for line in output.splitlines():
        if line.startswith("BENCH "):
            said = json.loads(line.removeprefix("BENCH "))
            return WrkResult(
                requests=said["requests"],
                seconds=said["duration_us"] / 1e6,
                errors=said["errors"],
                p50_ms=said["p50_us"] / 1e3,
                p99_ms=said["p99_us"] / 1e3,
            )
    raise RigBroken(f"wrk gave no result: {(output + words)[-300:]!r}")


def mock_stats(mock: Mock) -> dict[str, int]:
    """Read the streaming mock's counters, which sets them back."""
    _, text = ask(mock.ports[0], "/bench/stats")
    stats: dict[str, int] = json.loads(text)
    return stats
