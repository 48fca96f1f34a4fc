"""A model small enough to compute by hand, its engine, and the real one where it is installed."""

import asyncio
import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from arriero.embedded.package import ExtraMissing, require_all, require_modules

try:
    require_modules()
except ExtraMissing as missing:  # without numpy nothing of this folder can even be imported
    pytest.skip(str(missing), allow_module_level=True)

import numpy as np

from arriero.embedded.engine import Engine
from arriero.embedded.server import OllamaApi
from arriero.embedded.tokenizer import BYTE_OF
from arriero.embedded.weights import Floats, Header, Hyper, Vocabulary, Weights, build_weights
from arriero.embedded.worker import Worker
from arriero.testing.clock import LoopClock
from arriero.testing.http import HttpServer

MARKERS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "i n", "c a", "ca t", "Ã ©"]


def small_hyper(vocab_size: int) -> Hyper:
    return Hyper(
        block_count=2,
        context_length=256,
        embedding_length=32,
        feed_forward_length=48,
        head_count=4,
        head_count_kv=2,
        rope_dimension_count=8,
        rope_freq_base=100.0,
        layer_norm_rms_epsilon=1e-5,
        vocab_size=vocab_size,
    )


def random_tensors(hyper: Hyper) -> dict[str, Floats]:
    rng = np.random.default_rng(7)

    def matrix(*shape: int) -> Floats:
        return rng.normal(0, 0.5, shape).astype(np.float32)

    width, hidden = hyper.embedding_length, hyper.feed_forward_length
    heads = hyper.head_count + 2 * hyper.head_count_kv
    tensors = {"embedding": matrix(hyper.vocab_size, width)}
    for index in range(hyper.block_count):
        tensors |= {
            f"{index}.attention_norm": matrix(width),
            f"{index}.qkv": matrix(heads * width // hyper.head_count, width),
            f"{index}.attention_output": matrix(width, width),
            f"{index}.ffn_norm": matrix(width),
            f"{index}.gate_up": matrix(2 * hidden, width),
            f"{index}.down": matrix(width, hidden),
        }
    return tensors | {"output_norm": matrix(width)}


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*MARKERS, *sorted(BYTE_OF), *merged]
    return Vocabulary(tokens=tokens, merges=MERGES, control=[0, 1, 2], eos_ids=[2, 0])


@pytest.fixture(scope="session")
def hyper(vocabulary: Vocabulary) -> Hyper:
    return small_hyper(len(vocabulary.tokens))


@pytest.fixture(scope="session")
def tensors(hyper: Hyper) -> dict[str, Floats]:
    return random_tensors(hyper)


@pytest.fixture(scope="session")
def weights(hyper: Hyper, tensors: dict[str, Floats]) -> Weights:
    return build_weights(hyper, tensors)


@pytest.fixture(scope="session")
def header(hyper: Hyper, vocabulary: Vocabulary) -> Header:
    return Header(
        digest="d" * 64,
        gguf_bytes=1234,
        gguf_name="small.gguf",
        hyper=hyper,
        chat_template="{{ messages }}",
        vocabulary=vocabulary,
        tensors=[],
    )


@pytest.fixture
def engine(header: Header, weights: Weights) -> Engine:
    return Engine(header, weights, time.perf_counter)


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class _Received(io.BytesIO):
    """Bytes that `http.client` takes for a socket."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


class Api(NamedTuple):
    """A server in this process and a client for it."""

    server: HttpServer
    ollama: OllamaApi

    async def open(
        self, method: str, path: str, body: Any = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        payload = b"" if body is None else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection(self.server.host, self.server.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        return reader, writer

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        reader, writer = await self.open(method, path, body)
        received = await reader.read()
        writer.close()
        response = http.client.HTTPResponse(_Received(received), method=method)  # type: ignore[arg-type]  # it only asks for makefile
        response.begin()
        return Answer(response.status, response.headers["Content-Type"], response.read())


ServeEngine = Callable[[Engine], contextlib.AbstractAsyncContextManager[Api]]


@contextlib.asynccontextmanager
async def _serve(engine: Engine) -> AsyncIterator[Api]:
    with Worker() as worker:
        ollama = OllamaApi("small:1m", engine, worker, LoopClock())
        async with HttpServer(ollama.handle) as server:
            yield Api(server, ollama)


@pytest.fixture
def serve_engine() -> ServeEngine:
    return _serve


@pytest.fixture
async def api(engine: Engine) -> AsyncIterator[Api]:
    async with _serve(engine) as served:
        yield served


@pytest.fixture(scope="session")
def real_gguf() -> Path:
    try:
        return require_all()
    except ExtraMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def cache_home() -> Iterator[Path]:
    """A cache directory of this run: half a gigabyte, so it goes when the run ends."""
    with tempfile.TemporaryDirectory(prefix="arriero-cache-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def real_url(real_gguf: Path, cache_home: Path) -> Iterator[str]:
    """The address of a real embedded server, started as `arriero up` starts it."""
    command = [sys.executable, "-m", "arriero.embedded", "--parent-pid", str(os.getpid())]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        word, _, url = process.stdout.readline().strip().partition(" ")
        assert word == "ready", f"the server ended with {process.wait()}"
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
