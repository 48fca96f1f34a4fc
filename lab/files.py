"""Files laid into a host's root before it boots."""

from pathlib import Path


def put(root: Path, name: str, text: str, mode: int = 0o644) -> Path:
    """Write a file below a root, with its folders."""
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def enable(root: Path, unit: str, target: str = "multi-user.target") -> None:
    """Let a unit of `/etc/systemd/system` start with the host."""
    wants = root / f"etc/systemd/system/{target}.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")


def mask(root: Path, *units: str) -> None:
    """Keep units from starting: what only costs time in a lab."""
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True, exist_ok=True)
    for unit in units:
        (folder / unit).symlink_to("/dev/null")
