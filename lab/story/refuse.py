"""Mistakes before a deployment: each must be told, and nothing may have changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

from lab.control import LIMIT, Control
from lab.hosts import API
from lab.problems import expect
from lab.scene import Scene
from lab.story.deploy import fingerprint

PASTED = """\
[litellm]
# LiteLLM API Gateway - HX API Server (Final)

---

## Table of Contents
1. [Overview](#1-overview)
2. [Secrets & Vault](#2-secrets--vault)

[llm]
hx-llm01-server
"""
NOBODY = "http://hx-llm09-server.dev-test.hana-x.ai:11434"


def wrong_inventory(scene: Scene) -> str:
    """Give the specification's inventory as it was pasted, and a host that is in none."""

    def pasted(control: Control) -> None:
        control.inventory.write_text(PASTED, encoding="utf-8")

    _refused(scene, pasted, ["hint", "inventory", "parse", "host"])
    _refused(scene, lambda _: None, ["hx-nowhere", "match"], "--limit", "hx-nowhere")
    return "pasted Markdown and an unknown host: refused, nothing changed"


def wrong_vault(scene: Scene) -> str:
    """Give no vault, one in plain text, and one that another password opens."""

    def missing(control: Control) -> None:
        _vault(control).unlink()

    def plain(control: Control) -> None:
        _vault(control).write_text("litellm_master_key: sk-plain-and-long-enough\n", "utf-8")

    def locked(control: Control) -> None:
        control.password_file.write_text("another", encoding="utf-8")

    _refused(scene, missing, ["litellm_master_key", "vault"])
    _refused(scene, plain, ["encrypt"])
    _refused(scene, locked, ["decrypt", "vault"])
    return "missing, plain and locked vault: refused, nothing changed"


def dead_backend(scene: Scene) -> str:
    """Name a model host that does not answer."""
    more = ("-e", f'{{"litellm_backends": ["{NOBODY}"]}}')
    _refused(scene, lambda _: None, [NOBODY], *more)
    return f"{NOBODY}: refused, nothing changed"


def _vault(control: Control) -> Path:
    return control.inventory.parent / "group_vars" / "all" / "vault.yml"


def _refused(
    scene: Scene, spoil: Callable[[Control], None], words: list[str], *arguments: str
) -> None:
    """Run the apply on a spoilt copy: it must fail, with one of the words, and change nothing."""
    before = fingerprint(scene)
    copy = scene.stage.folder / "spoilt"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(scene.control.inventory.parent, copy / "inventory", symlinks=True)
    shutil.copytree(scene.control.password_file.parent, copy / "keys")
    control = Control(scene.stage, scene.evidence, home=copy)
    spoil(control)
    limit = () if "--limit" in arguments else LIMIT
    tags = ("-t", "critical,high")
    done = control.play("litellm_enforce", *limit, *tags, *arguments, check=False)
    shutil.rmtree(copy)
    said = done.output[-2500:]
    expect(done.code != 0, f"it was not refused:\n{said}")
    lower = done.output.lower()
    expect(any(word.lower() in lower for word in words), f"none of {words} is said:\n{said}")
    expect(fingerprint(scene) == before, f"{API.name} was changed:\n{said}")
