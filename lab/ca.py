"""The certificate authority of the house, HX Root CA, made anew for each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.shell import Shell

NAME = "HX Root CA"
DAYS = "30"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as files."""

    certificate: Path
    key: Path


def make_root(shell: Shell, folder: Path) -> Pair:
    """Make the authority's certificate."""
    pair = Pair(folder / "hx-root-ca.crt", folder / "hx-root-ca.key")
    _request(shell, ["-x509", "-days", DAYS, "-subj", f"/O=HANA-X/CN={NAME}"], pair)
    return pair


def issue(shell: Shell, root: Pair, folder: Path, names: Sequence[str]) -> Pair:
    """Make a server's certificate for these names, signed by the authority."""
    pair = Pair(folder / f"{names[0]}.crt", folder / f"{names[0]}.key")
    alternatives = ",".join(f"DNS:{name}" for name in names)
    arguments = ["-x509", "-days", DAYS, "-subj", f"/CN={names[0]}"]
    arguments += ["-CA", str(root.certificate), "-CAkey", str(root.key)]
    arguments += ["-addext", f"subjectAltName={alternatives}"]
    arguments += ["-addext", "basicConstraints=critical,CA:FALSE"]
    _request(shell, arguments, pair)
    return pair


def _request(shell: Shell, arguments: Sequence[str], pair: Pair) -> None:
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    output: list[str | Path] = ["-keyout", pair.key, "-out", pair.certificate]
    shell.run(["openssl", "req", *new_key, *arguments, *output])
