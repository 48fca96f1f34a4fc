"""The lab's package index, asked by pip itself, which has to fetch by hash."""

import hashlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from lab.index import index_of, page, project_of

pytestmark = pytest.mark.timeout(120)


def test_pip_fetches_what_it_pins(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("typing_extensions-4.0.0", "arriero-0.1.0"):
        (wheels / f"{name}-py3-none-any.whl").write_bytes(f"the wheel {name}".encode())
    digest = hashlib.sha256(b"the wheel typing_extensions-4.0.0").hexdigest()
    pins = tmp_path / "pins.txt"
    pins.write_text(f"typing-extensions==4.0.0 --hash=sha256:{digest}\n")
    with index_of(wheels, without="arriero", host="127.0.0.1") as index:
        argv = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        argv += ["download", "--no-deps", "--require-hashes", "-r", str(pins)]
        argv += ["--dest", str(tmp_path / "got"), "--no-cache-dir"]
        env = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
        (tmp_path / "pip.conf").write_text(index.pip_settings)
        done = subprocess.run(
            argv, env=env, check=False, capture_output=True, text=True, timeout=60
        )
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{index.url}arriero/", timeout=20)
    # It is no archive, which pip finds out once it has fetched it and found the hash to be right.
    assert index.fetched == {"typing_extensions-4.0.0-py3-none-any.whl"}
    assert "HASHES" not in done.stderr


def test_names_are_normalised_as_the_packaging_guide_says() -> None:
    assert project_of("Typing_Extensions-4.0.0-py3-none-any.whl") == "typing-extensions"
    assert project_of("zope.interface-7-cp311-cp311-linux_x86_64.whl") == "zope-interface"


def test_a_page_links_to_its_wheels() -> None:
    assert b'<a href="/files/a-1-py3-none-any.whl">' in page(["a-1-py3-none-any.whl"])
