#!/usr/bin/python3
"""Write texts into a folder with a manifest of checksums: one step instead of one for each file."""

import hashlib
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: hx_bundle
short_description: Write a bundle of evidence
description:
  - Writes texts into a folder, readable by its owner alone, and C(manifest.sha256) with the
    checksums of everything in it, what others put there included.
  - Reports no change, as a record of a run is no state of a system.
options:
  folder:
    description: The folder; it is made when it is not there.
    type: path
    required: true
  files:
    description: Names, which may have folders in them, and the texts.
    type: dict
    required: true
author:
  - the authors of arriero
"""

EXAMPLES = r"""
- name: Write the evidence
  hx_bundle:
    folder: .evidence/triage/20250131T235959Z
    files:
      findings.txt: all is well
"""

RETURN = r"""
manifest:
  description: The manifest's text.
  returned: always
  type: str
"""

MANIFEST = "manifest.sha256"


def write(path: Path, text: str) -> None:
    """Write one file for its owner's eyes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def manifest(folder: Path) -> str:
    """Return checksums of all files of a folder in the form that `sha256sum -c` reads."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    sums = [(hashlib.sha256(path.read_bytes()).hexdigest(), path) for path in paths]
    return "".join(f"{digest}  {path.relative_to(folder).as_posix()}\n" for digest, path in sums)


def main() -> None:
    """Run as Ansible's module."""
    module = AnsibleModule(
        {"folder": {"type": "path", "required": True}, "files": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    inside = [name for name in module.params["files"] if ".." in Path(name).parts]
    if inside:
        module.fail_json(msg=f"names that leave the folder: {', '.join(inside)}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in module.params["files"].items():
            write(folder / name.lstrip("/"), str(text))
        write(folder / MANIFEST, manifest(folder))
    except OSError as wrong:
        module.fail_json(msg=f"no evidence written: {wrong}")
    module.exit_json(changed=False, manifest=(folder / MANIFEST).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
