"""Facts of a host: who may read a file, who holds a port, what systemd's programs print."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from arriero.app.doctor import configuring, looking
from arriero.app.doctor.facts import ConfigFile, Unit

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 00000000:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1
   2: 0100007F:0FA0 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 4713 1
   3: 0100007F:0FA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1
"""
TABLE6 = """\
  sl  local_address                         remote_address st ...
   0: 00000000000000000000000001000000:0FA0 00000000000000000000000000000000:0000 0A 0 0 0 0 0 99 1
"""


def test_the_kernels_table_of_sockets() -> None:
    assert list(looking.listening(TABLE, 4000)) == [
        ("127.0.0.1:4000", "4711"),
        ("0.0.0.0:4000", "4712"),
    ]
    assert list(looking.listening(TABLE6, 4000)) == [("[::1]:4000", "99")]


def test_who_holds_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (found,) = looking.listeners(listener.getsockname()[1])
    assert found.pid == os.getpid()
    assert found.command


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "may"),
    [
        (0o640, 1, {1}, False),  # others
        (0o640, 1, {0}, True),  # the group
        (0o604, 1, {0}, False),  # the group's bits count, though others' would allow it
        (0o604, 1, {1}, True),
        (0o040, 0, {0}, False),  # the owner's bits count
    ],
)
def test_who_may_read(tmp_path: Path, mode: int, uid: int, groups: set[int], *, may: bool) -> None:
    status = os.stat_result((mode, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    assert looking.allows(status, uid, groups, 4) is may


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look for others")
def test_a_folder_on_the_way_counts(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_name
    file = tmp_path / "config.yaml"
    file.write_text("x")
    file.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    assert looking.may_read(file, nobody)
    tmp_path.chmod(0o700)
    assert not looking.may_read(file, nobody)
    assert looking.may_read(file, "root")
    assert not looking.may_read(file, "no-such-user")


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put programs on PATH that print what systemd's print, as it was printed on a real host."""
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


SHOWN = """\
LoadState=loaded
ActiveState=failed
SubState=failed
User=nobody
NRestarts=5
LoadCredential=[unprintable]
Environment=LITELLM_PORT=4000
"""
# systemd 252 prints no credentials, so that they have to be read from the unit's files.
UNIT = """\
# /etc/systemd/system/litellm.service
[Service]
LoadCredential=other:/nowhere
SETTING=master_key:KEY
"""
CONFIG = "backends: [{name: a, url: 'http://127.0.0.1:9'}]\nmodels: [{name: x, model: y}]\n"


def systemctl(setting: str, key: Path) -> str:
    text = UNIT.replace("SETTING", setting).replace("KEY", str(key))
    return f"[ $1 = cat ] && exec cat <<'END'\n{text}END\ncat <<'END'\n{SHOWN}END"


def test_what_systemd_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, config = tmp_path / "key", tmp_path / "config.yaml"
    key.write_text("sk-of-the-credential-0123456789\n")
    config.write_text(CONFIG)
    programs(
        tmp_path,
        monkeypatch,
        systemctl=systemctl("LoadCredential", key),
        journalctl="echo one; echo two",
        timedatectl="echo no",
    )
    host = looking.look(config, "litellm", 1)
    assert host is not None
    assert host.unit is not None
    assert (host.unit.state, host.unit.user) == ("failed (failed)", "nobody")
    assert host.unit.journal == ("one", "two")
    assert host.clock_synchronised is False
    assert host.config is not None
    assert host.config.mistakes == ()  # The key comes from the credential's file.
    assert host.config.routes == {"x": (("http://127.0.0.1:9", "y"),)}
    key.unlink()
    host = looking.look(config, "litellm", 1)
    assert host is not None
    assert host.config is not None
    assert "no master key" in host.config.mistakes[0]


def test_an_encrypted_key_is_the_one_that_systemd_gave_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, config = tmp_path / "master_key.cred", tmp_path / "config.yaml"
    stored.write_text("only systemd can read this")
    config.write_text(CONFIG)
    programs(tmp_path, monkeypatch, systemctl=systemctl("LoadCredentialEncrypted", stored))
    monkeypatch.setattr(configuring, "GIVEN", str(tmp_path / "given"))

    def seen() -> ConfigFile:
        host = looking.look(config, "litellm", 1)
        assert host is not None
        assert host.config is not None
        return host.config

    # The service is stopped: there is a key, and nobody can say what it is.
    assert (seen().mistakes, seen().weak_key) == ((), None)
    given = tmp_path / "given/litellm/master_key"
    given.parent.mkdir(parents=True)
    given.write_text("sk-1234\n")
    assert "publicly known" in str(seen().weak_key)
    given.unlink()
    stored.unlink()
    assert "no master key" in seen().mistakes[0]


def test_a_host_without_systemd_and_without_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(looking, "CONFIGS", ())
    assert looking.look(None, None, 1) is None
    assert looking.synchronised() is None


def test_variables_of_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\nONE=1\nTWO=\"2\"\nTHREE = '3'\nnone\n")
    unit = Unit(
        name="x",
        properties={
            "Environment": "A=a B=b=c",
            "EnvironmentFiles": f"{file} (ignore_errors=no)\n/nowhere (ignore_errors=yes)",
        },
    )
    found = configuring.environment(unit)
    assert {name: found[name] for name in ("A", "B", "ONE", "TWO", "THREE")} == {
        "A": "a",
        "B": "b=c",
        "ONE": "1",
        "TWO": "2",
        "THREE": "3",
    }
