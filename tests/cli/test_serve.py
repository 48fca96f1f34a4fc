"""`arriero serve` as a process: what keeps it from serving is told with a way out."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.processes import KEY, write_config

Change = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path) -> Change:
    """Return a function that writes a configuration with sections replaced."""
    path = write_config(tmp_path, ["http://127.0.0.1:1"], {"llama": "llama3:8b"})

    def change(**sections: Any) -> Path:
        document = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode(document | sections))
        return path

    return change


def serve(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def refused(ran: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the words of a run that must have ended in an error with a hint."""
    assert ran.returncode == code, ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert "hint: " in ran.stderr
    assert KEY not in ran.stderr
    return ran.stderr


def test_a_taken_port_is_told(config: Change) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = refused(serve(config(), "--port", str(port)), 1)
    assert f"error: cannot listen on 127.0.0.1:{port}: " in words
    assert "address already in use" in words.lower()


def test_a_host_that_is_none_is_told(config: Change) -> None:
    words = refused(serve(config(), "--host", "256.0.0.1", "--port", "0"), 1)
    assert "error: cannot listen on 256.0.0.1:0: " in words


def test_an_access_log_that_cannot_be_written_is_told(config: Change, tmp_path: Path) -> None:
    log = tmp_path / "absent" / "access.log"
    words = refused(serve(config(log={"access": str(log)}), "--port", "0"), 1)
    assert "error: cannot write the access log: " in words
    assert str(log) in words


def test_a_certificate_that_is_none_is_told(config: Change, tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("no certificate")
    files = {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")}
    words = refused(serve(config(server={"tls": files}), "--port", "0"), 1)
    assert "error: cannot use the certificate: " in words
    assert files["key"] in words


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    words = refused(serve(tmp_path / "absent.yaml"), 2)
    assert "No such file" in words
    assert "hint: arriero check " in words


def test_mistakes_in_the_configuration_are_told(config: Change) -> None:
    words = refused(serve(config(modles=[])), 1)
    assert "modles" in words
