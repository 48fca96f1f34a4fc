"""The gateways: what each is given to do here, how it is installed and how it is started.

All of them balance over two upstream addresses. What else each does differs, and `job` says it:
the figures are of that job.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks import install
from benchmarks.bodies import KEY, MODEL
from benchmarks.install import Installed
from benchmarks.paths import FLOOR

Upstream = Literal["openai", "ollama"]
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Site:
    """Where one gateway runs this time: its port, the ports of the two backends, its folder."""

    port: int
    backends: tuple[int, int]
    folder: Path
    installed: Installed

    @property
    def program(self) -> str:
        """The installed program's path."""
        return str(self.installed.program)

    def urls(self, suffix: str = "") -> list[str]:
        """Return the addresses of the two backends."""
        return [f"http://127.0.0.1:{port}{suffix}" for port in self.backends]

    def write(self, name: str, text: str) -> str:
        """Write a configuration file and return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Launch:
    """A command, its environment, and headers that a client has to send besides its key."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gateway:
    """One entrant."""

    name: str
    title: str
    job: str
    install: Callable[[], Installed]
    launch: Callable[[Site], Launch]
    family: Literal["floor", "proxy", "rust", "node", "python", "ours"]
    upstream: Upstream = "openai"
    ready_limit_s: float = 20.0


def _haproxy(site: Site, log: str) -> Launch:
    servers = "\n".join(
        f"    server b{number} 127.0.0.1:{port}" for number, port in enumerate(site.backends)
    )
    per_request = "    log global\n    option httplog" if log else ""
    text = f"""\
global
    nbthread 1
    maxconn 4096
{log}
defaults
    mode http
    timeout connect 3s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10m
    option http-keep-alive
    http-reuse always
    option http-no-delay
{per_request}
frontend gateway
    bind 127.0.0.1:{site.port}
    http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer {KEY}" }}
    default_backend models
backend models
    balance leastconn
{servers}
"""
    return Launch([site.program, "-db", "-f", site.write("haproxy.cfg", text)])


def _haproxy_quiet(site: Site) -> Launch:
    return _haproxy(site, "")


def _haproxy_log(site: Site) -> Launch:
    return _haproxy(site, "    log stdout format raw local0 info")


def _rolter(site: Site) -> Launch:
    providers = "".join(
        f'[[providers]]\nname = "b{number}"\nkind = "openai_compatible"\napi_base = "{url}"\n'
        # Its queues answer 429 to the thousand streams unless they are made larger.
        "queue = { capacity = 4096, workers = 4096 }\n\n"
        for number, url in enumerate(site.urls())
    )
    targets = "".join(
        f'[[routes.targets]]\nprovider = "b{number}"\nmodel = "{MODEL}"\n\n'
        for number in range(len(site.backends))
    )
    text = (
        f'[server]\nhost = "127.0.0.1"\nport = {site.port}\n\n{providers}'
        f'[[routes]]\nmodel = "{MODEL}"\nstrategy = "power_of_two"\n\n{targets}'
    )
    argv = [site.program, "gateway", "-c", site.write("rolter.toml", text)]
    return Launch(argv, {"RUST_LOG": "warn"})


def _sglang_router(site: Site) -> Launch:
    return Launch(_worker_router(site), {"RUST_LOG": "warn"})


def _worker_router(site: Site) -> list[str]:
    """Return the options that the two descendants of SGLang's router share."""
    address = ["launch", "--host", "127.0.0.1", "--port", str(site.port)]
    workers = ["--worker-urls", *site.urls()]
    return [site.program, *address, *workers, "--policy", "power_of_two", "--log-level", "warn"]


def _smg(site: Site) -> Launch:
    return Launch([*_worker_router(site), "--disable-tokenizer-autoload"], {"RUST_LOG": "warn"})


def _install_portkey() -> Installed:
    # With newer releases of @hono/node-server than this one (1.19.5 and 1.19.9 were tried), which
    # npm would choose, Portkey 1.15.2 answers 500 to every streamed request.
    overrides = {"@hono/node-server": "1.13.7"}
    entry = "build/start-server.js"
    return install.npm_package("@portkey-ai/gateway", "1.15.2", entry, overrides)


def _portkey(site: Site) -> Launch:
    targets = [
        {"provider": "openai", "custom_host": url, "api_key": "none"} for url in site.urls("/v1")
    ]
    config = {"strategy": {"mode": "loadbalance"}, "targets": targets}
    script = str(site.installed.facts["script"])
    return Launch(
        [site.program, script, f"--port={site.port}", "--headless"],
        {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
        {"x-portkey-config": json.dumps(config, separators=(",", ":"))},
    )


def _litellm(site: Site) -> Launch:
    models = "".join(
        f"  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
        f"      api_base: {url}\n      api_key: none\n"
        for url in site.urls("/v1")
    )
    text = (
        f"model_list:\n{models}"
        "router_settings:\n  routing_strategy: least-busy\n"
        f"general_settings:\n  master_key: {KEY}\n"
    )
    config = site.write("litellm.yaml", text)
    argv = [site.program, "--config", config, "--host", "127.0.0.1", "--port", str(site.port)]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "NO_PROXY": "127.0.0.1",
    }
    return Launch([*argv, "--num_workers", "1", "--telemetry", "False"], env)


def arriero(site: Site, kind: Upstream, more: str = "") -> Launch:
    """Return how our own gateway is started; `more` is added to its configuration."""
    suffix = "" if kind == "ollama" else "/v1"
    backends = "".join(
        f"  - name: b{number}\n    url: {url}\n    kind: {kind}\n    slots: 4096\n"
        for number, url in enumerate(site.urls(suffix))
    )
    text = (
        f"backends:\n{backends}"
        f"models:\n  - name: {MODEL}\n    model: {MODEL}\n"
        f"server:\n  host: 127.0.0.1\n  port: {site.port}\n"
        "routing:\n  strategy: least-busy\n"
        f"access:\n  master_key: {KEY}\n"
        f"log:\n  access: {site.folder / 'access.log'}\n"
        f"{more}"
    )
    return Launch([site.program, "serve", "--config", site.write("arriero.yaml", text)])


def _arriero_ollama(site: Site) -> Launch:
    return arriero(site, "ollama")


def _arriero_openai(site: Site) -> Launch:
    return arriero(site, "openai")


def entrants(*, worktree: bool) -> list[Gateway]:
    """Return all gateways in the order in which each round measures them."""
    return [
        *_proxies(),
        *_floor(worktree=worktree),
        *_ours(worktree=worktree),
        *_rust_peers(),
        *_other_peers(),
    ]


def _floor(*, worktree: bool) -> list[Gateway]:
    def find() -> Installed:
        return install.arriero(worktree=worktree)

    job = "passes bytes on with our event loop; reads, checks and counts nothing"
    return [Gateway("floor", "uvloop, bytes only", job, find, _bytes_only, "floor")]


def _bytes_only(site: Site) -> Launch:
    python = str(site.installed.program.with_name("python"))
    return Launch([python, str(FLOOR), str(site.port), *map(str, site.backends)])


def _proxies() -> list[Gateway]:
    def find() -> Installed:
        return install.debian_package("haproxy")

    job = "relays bytes; key check by ACL, leastconn, counters, no log"
    with_log = "the same, and one log line a request to a file"
    return [
        Gateway("haproxy", "HAProxy", job, find, _haproxy_quiet, "proxy"),
        Gateway("haproxy-log", "HAProxy with access log", with_log, find, _haproxy_log, "proxy"),
    ]


def _ours(*, worktree: bool) -> list[Gateway]:
    def find() -> Installed:
        return install.arriero(worktree=worktree)

    duties = "key, least-busy, metrics, access log"
    native = f"translates to Ollama's native API and back; {duties}"
    relay = f"relays the OpenAI format; {duties}"
    return [
        Gateway("arriero", "arriero", native, find, _arriero_ollama, "ours", upstream="ollama"),
        Gateway("arriero-openai", "arriero, OpenAI backends", relay, find, _arriero_openai, "ours"),
    ]


def _rust_peers() -> list[Gateway]:
    return [
        Gateway(
            "rolter",
            "rolter",
            "relays the OpenAI format; power of two, no keys",
            lambda: install.pip_package("rolter", "0.1.0", "rolter"),
            _rolter,
            "rust",
        ),
        Gateway(
            "sglang-router",
            "sglang-router",
            "relays the OpenAI format; power of two, metrics, no keys",
            lambda: install.pip_package("sglang-router", "0.3.2", "sglang-router"),
            _sglang_router,
            "rust",
        ),
        Gateway(
            "smg",
            "SMG",
            "relays the OpenAI format; power of two, metrics, no keys",
            lambda: install.pip_package("smg", "1.13.0", "smg"),
            _smg,
            "rust",
        ),
    ]


def _other_peers() -> list[Gateway]:
    return [
        Gateway(
            "portkey",
            "Portkey",
            "relays the OpenAI format; weighted choice of two by request header, no keys",
            _install_portkey,
            _portkey,
            "node",
        ),
        Gateway(
            "litellm",
            "LiteLLM",
            "relays the OpenAI format through its provider layer; key, least-busy, one worker",
            lambda: install.pip_package("litellm", "1.106.2", "litellm", "[proxy]"),
            _litellm,
            "python",
            ready_limit_s=120.0,
        ),
    ]
