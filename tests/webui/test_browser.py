"""A member of the canary chats in a browser, and the real model answers through the gateway."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.processes import KEY
from tests.webui.command import Command
from tests.webui.site import Site

from arriero.embedded.package import ExtraMissing, require_all

SCRIPT = Path(__file__).with_name("screenshot.py")
ANN = "ann@example.com"
PNG = b"\x89PNG\r\n\x1a\n"


# Open WebUI asks for a title and tags after the answer, and the gateway lets them finish.
STOP_TIMEOUT_S = 60.0


@contextmanager
def embedded_gateway() -> Iterator[str]:
    """Run `arriero up` with no Ollama near, so that the embedded servers stand in."""
    own = {"OLLAMA_HOST": "127.0.0.1:9", "ARRIERO_MASTER_KEY": KEY}
    command = [sys.executable, "-m", "arriero", "up", "--port", "0"]
    with subprocess.Popen(
        command, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            assert running.stdout
            address = next((line for line in running.stdout if line.startswith("address")), "")
            yield address.removeprefix("address").strip().removesuffix("/v1")
        finally:
            running.terminate()
            running.communicate(timeout=STOP_TIMEOUT_S)


@pytest.fixture
def embedded() -> Iterator[str]:
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no browser: apt install chromium chromium-driver")
    try:
        require_all()
    except ExtraMissing as missing:
        pytest.skip(missing.message)
    with embedded_gateway() as url:
        yield url


@pytest.mark.timeout(240)
def test_a_chat_in_a_browser(real: Site, embedded: str, tmp_path: Path) -> None:
    command = Command(real, embedded, tmp_path)
    command("canary", "--yes", "--member", ANN, "--model", "smollm2")
    password, picture = tmp_path / "password", tmp_path / "chat.png"
    password.write_text("pw-user-12345")
    asked = ["--webui", real.url, "--email", ANN, "--password-file", str(password)]
    asked += ["--model", "gw.smollm2", "--picture", str(picture), "--timeout", "150"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *asked], capture_output=True, text=True, check=False
    )
    if folder := os.environ.get("ARRIERO_SCREENSHOTS"):
        shutil.copy(picture, Path(folder) / "webui-chat.png")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) > 1
    assert picture.read_bytes().startswith(PNG)
    assert command("status")["phase"] == "canary"
    command("rollback", "--yes")
