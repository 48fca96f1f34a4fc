"""Facts of this host: the unit, the file, the port, the clock. Nothing is changed."""

import grp
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from arriero.app.doctor.configuring import read_file
from arriero.app.doctor.facts import File, Host, Listener, Unit

UNITS = ("litellm.service", "arriero.service")
CONFIGS = (Path("/etc/litellm/config.yaml"), Path("/etc/arriero/config.yaml"))
COMMAND_TIMEOUT_S = 20.0
JOURNAL_LINES = 20
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "MainPID",
    "NRestarts",
    "NeedDaemonReload",
    "User",
    "Environment",
    "EnvironmentFiles",
)
# Of these `systemctl show` of systemd 252 tells "[unprintable]"; the unit's files tell them.
CREDENTIALS = re.compile(r"(?m)^(LoadCredential(?:Encrypted)?)=(.+)$")
LISTENING = "0A"  # Linux, include/net/tcp_states.h: TCP_LISTEN
PROC = Path("/proc")


def look(config: Path | None, unit: str | None, port: int) -> Host | None:
    """Return what this host has of a gateway; None when it has nothing and nothing was named."""
    found = look_at_unit((unit,) if unit else UNITS)
    path = config or next((path for path in CONFIGS if path.exists()), None)
    if path is None and unit is None and (found is None or not found.there):
        return None
    service = found if found and found.there else None
    return Host(
        unit=found,
        config=read_file(path, permissions(path, service), service) if path else None,
        listeners=tuple(listeners(port)),
        clock_synchronised=synchronised(),
    )


def look_at_unit(names: Sequence[str]) -> Unit | None:
    """Return the first of these units that is there, else the first; None without systemd."""
    if shutil.which("systemctl") is None:
        return None
    units = [Unit(name=name, properties=show("systemctl", "show", name)) for name in names]
    found = next((unit for unit in units if unit.there), units[0])
    if not found.there:
        return found
    lines = ("-n", str(JOURNAL_LINES), "-o", "cat", "--no-pager", "-q")
    journal = run("journalctl", "-u", found.name, *lines).splitlines()
    properties = found.properties | credentials(found.name)
    return Unit(name=found.name, properties=properties, journal=tuple(journal))


def credentials(unit: str) -> dict[str, str]:
    """Return the settings of a unit that say where its credentials come from."""
    found: dict[str, str] = {}
    for name, value in CREDENTIALS.findall(run("systemctl", "cat", unit)):
        found[name] = f"{found.get(name, '')}\n{value}".strip()
    return found


def show(*command: str) -> dict[str, str]:
    """Return the properties that a `show` of systemd's prints."""
    output = run(*command, *(f"--property={name}" for name in PROPERTIES))
    pairs = [line.partition("=") for line in output.splitlines()]
    # EnvironmentFiles= may be there several times.
    found: dict[str, str] = {}
    for name, _, value in pairs:
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def run(*command: str) -> str:
    """Return what a command prints; nothing when it cannot be run or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - commands of this module, and no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def synchronised() -> bool | None:
    """Return whether systemd calls the clock synchronised; None where it cannot tell."""
    told = run("timedatectl", "show", "--property=NTPSynchronized", "--value").strip()
    return {"yes": True, "no": False}.get(told)


def permissions(path: Path, unit: Unit | None) -> File | None:
    """Return who may read a file; None when it is not there or hidden from us."""
    try:
        status = path.stat()
    except OSError:
        return None
    return File(
        path=str(path),
        mode=status.st_mode & 0o7777,
        owner=name_of(pwd.getpwuid, status.st_uid),
        group=name_of(grp.getgrgid, status.st_gid),
        readable=unit is None or may_read(path, unit.user),
    )


def name_of(ask: Callable[[int], Sequence[Any]], number: int) -> str:
    """Return a user's or a group's name, or its number when it has none."""
    try:
        return str(ask(number)[0])
    except KeyError:
        return str(number)


def may_read(path: Path, user: str) -> bool:
    """Return whether a user may read a file: the file itself, and every folder on the way."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return False
    if account.pw_uid == 0:
        return True
    groups = set(os.getgrouplist(user, account.pw_gid))
    folders = list(path.resolve().parents)
    return allows(path.stat(), account.pw_uid, groups, 4) and all(
        allows(folder.stat(), account.pw_uid, groups, 1) for folder in folders
    )


def allows(status: os.stat_result, uid: int, groups: set[int], bit: int) -> bool:
    """Return whether the permissions of the class that a user is in have this bit (POSIX)."""
    if status.st_uid == uid:
        return bool(status.st_mode & (bit << 6))
    if status.st_gid in groups:
        return bool(status.st_mode & (bit << 3))
    return bool(status.st_mode & bit)


def listeners(port: int) -> Iterator[Listener]:
    """Yield what listens on a port of this host."""
    found = []
    for table in ("net/tcp", "net/tcp6"):
        try:
            found += list(listening((PROC / table).read_text(), port))
        except OSError:
            continue
    holders = socket_holders({inode for _, inode in found})
    for address, inode in found:
        pid, command = holders.get(inode, (0, ""))
        yield Listener(address=address, pid=pid, command=command)


def listening(table: str, port: int) -> Iterator[tuple[str, str]]:
    """Yield address and inode of the sockets of a table of /proc/net that listen on a port."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, _, own_port = fields[1].partition(":")
        if fields[3] == LISTENING and int(own_port, 16) == port:
            yield f"{readable_address(address)}:{port}", fields[9]


def readable_address(digits: str) -> str:
    """Return an address as people write it; the kernel prints 32-bit words in host order."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    packed = b"".join(words)
    if len(packed) == 4:  # noqa: PLR2004 - IPv4
        return socket.inet_ntop(socket.AF_INET, packed)
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]"


def socket_holders(inodes: set[str]) -> dict[str, tuple[int, str]]:
    """Return process and command by inode, as far as we may look."""
    found: dict[str, tuple[int, str]] = {}
    if not inodes:
        return found
    for process in PROC.glob("[0-9]*"):
        for inode in sockets(process) & inodes:
            found[inode] = (int(process.name), command(process))
    return found


def sockets(process: Path) -> set[str]:
    """Return the inodes of a process's sockets; none when it ended or is somebody else's."""
    found = set()
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return set()
    for link in links:
        try:
            target = str(link.readlink())
        except OSError:  # Closed since, as is the one of the listing itself.
            continue
        match = re.fullmatch(r"socket:\[(\d+)\]", target)
        if match:
            found.add(match[1])
    return found


def command(process: Path) -> str:
    """Return a process's name."""
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""
