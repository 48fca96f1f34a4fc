"""Rows about the gateway's own host: the file, the key, the unit."""

from collections.abc import Iterator

from arriero.app.doctor.diagnosis import Diagnosis, good, problem, warning
from arriero.app.doctor.facts import Facts

FILE = "configuration"
KEY = "master key"
UNIT = "unit"
OTHERS_MAY_READ = 0o004


def configuration(facts: Facts) -> Iterator[Diagnosis]:
    """Tell whether the file can be read by whom it must, by nobody else, and be run."""
    config = facts.host.config if facts.host else None
    if config is None:
        return
    found = [*_unreadable(facts), *_unusable(facts)]
    yield from found
    if not found and config.file is not None:
        file = config.file
        yield good(FILE, f"{file.path} is {file.mode:04o} {file.owner}:{file.group}, and good")


def _unreadable(facts: Facts) -> Iterator[Diagnosis]:
    config = facts.host.config if facts.host else None
    unit = facts.host.unit if facts.host else None
    if config is None or config.file is None:
        return
    file = config.file
    shown = f"{file.path} is {file.mode:04o} {file.owner}:{file.group}"
    if not file.readable:
        user = unit.user if unit else "the service's user"
        yield problem(
            FILE,
            f"{user} may not read {file.path}",
            cause="root wrote it for root; the next start or reload fails",
            evidence=[shown],
            fix=f"chgrp {user} {file.path} && chmod 0640 {file.path}",
        )
    if config.secret_inside and file.mode & OTHERS_MAY_READ:
        yield problem(
            FILE,
            "everybody on this host can read the master key",
            cause=f"it stands in {file.path}, which others may read",
            evidence=[shown],
            fix=f"chmod 0640 {file.path}, rotate the key, and give it as a credential",
        )


def _unusable(facts: Facts) -> Iterator[Diagnosis]:
    config = facts.host.config if facts.host else None
    if config is None:
        return
    if config.error or config.mistakes:
        yield problem(
            FILE,
            "the configuration cannot be run",
            cause=config.error or "it has mistakes; a service that runs keeps its old one",
            evidence=config.mistakes,
            fix="arriero check FILE tells each with its line",
        )
    if config.unprefixed:
        yield warning(
            FILE,
            f"LiteLLM would leave out {', '.join(config.unprefixed)}",
            cause="a model without a provider is dropped there, and nothing says so",
            evidence=["arriero takes such a model for Ollama's"],
            fix="write ollama_chat/MODEL before you switch the engine",
        )


def master_key(facts: Facts) -> Iterator[Diagnosis]:
    """Tell about a master key that can be guessed."""
    config = facts.host.config if facts.host else None
    if config is not None and config.weak_key:
        yield problem(
            KEY,
            f"the master key {config.weak_key}",
            cause="it was copied from a page, or made by hand",
            fix="openssl rand -hex 24, into the credential; restart; give clients the new one",
        )


def unit(facts: Facts) -> Iterator[Diagnosis]:
    """Tell about a service that runs, but not well."""
    found = facts.host.unit if facts.host else None
    if found is None or not found.there:
        return
    known = found.properties
    if known.get("NeedDaemonReload") == "yes":
        yield warning(
            UNIT,
            f"{found.name} runs by an older unit file",
            cause="the file was changed without a daemon-reload",
            evidence=["NeedDaemonReload=yes"],
            fix=f"systemctl daemon-reload && systemctl restart {found.name}",
        )
    if known.get("NRestarts", "0") not in ("", "0"):
        yield warning(
            UNIT,
            f"{found.name} was restarted {known['NRestarts']} times by systemd",
            cause="it ended by itself, or its watchdog ended it",
            evidence=found.journal[-5:],
            fix=f"journalctl -u {found.name} -p warning",
        )
    elif found.active:
        yield good(UNIT, f"{found.name} is {found.state} as {found.user}")
