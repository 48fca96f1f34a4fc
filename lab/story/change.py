"""Changes of release and engine while clients chat, and the ways back."""

import re
import shutil
from pathlib import Path

from lab import paths
from lab.control import LIMIT, changed
from lab.hosts import API
from lab.load import told, under_load
from lab.problems import expect
from lab.rootfs import digest
from lab.scene import Scene
from lab.story.accept import accept
from lab.story.deploy import gather

NEXT_VERSION = "0.1.1"
TAGS = ("-t", "critical,high")
PARTS = ("src", "requirements", "pyproject.toml", "README.md", "LICENSE")


def upgrade(scene: Scene) -> str:
    """Build the next release and roll it out under load."""
    gather_release(scene, NEXT_VERSION)
    with under_load(scene.target()) as count:
        before = running_version(scene)
        done = scene.control.play("upgrade", *LIMIT, "-e", f"arriero_version={NEXT_VERSION}")
        after = running_version(scene)
    expect(after == NEXT_VERSION != before, f"from {before} to {after}")
    return f"{before} to {after}, {changed(done)} changes; {told(count)}"


def roll_back(scene: Scene) -> str:
    """Go back to the release before, with the deployment's own playbook, under load."""
    with under_load(scene.target()) as count:
        before = running_version(scene)
        scene.control.play("rollback", *LIMIT, "-e", "rollback_to=version")
        after = running_version(scene)
    expect(before == NEXT_VERSION != after, f"from {before} to {after}")
    return f"{before} to {after}; {told(count)}"


def to_litellm(scene: Scene) -> str:
    """Run the other engine under the same unit, key and configuration, and accept it."""
    _gather_litellm(scene)
    return _switch(scene, "litellm")


def to_arriero(scene: Scene) -> str:
    """Come back to arriero and accept it again."""
    return _switch(scene, "arriero")


def _gather_litellm(scene: Scene) -> None:
    """Gather LiteLLM's 120 packages, unless they are what its lock pins already."""
    inputs = (
        paths.REPOSITORY / "requirements/litellm.txt",
        paths.REPOSITORY / "scripts/wheelhouse",
    )
    key = digest(*(path.read_text(encoding="utf-8") for path in inputs))
    mark = scene.control.wheels / "litellm.key"
    if not mark.exists() or mark.read_text(encoding="utf-8") != key:
        gather(scene, "--engine", "litellm")
        mark.write_text(key, encoding="utf-8")


def back_to_engine(scene: Scene) -> str:
    """Go to the other engine and back by the deployment's own playbook, under load."""
    told_of = [_back_to(scene, "litellm"), _back_to(scene, "arriero")]
    again = scene.control.play("litellm_enforce", *LIMIT, *TAGS)
    expect(changed(again) == 0, f"an apply afterwards changed {changed(again)}")
    return "; ".join(told_of)


def _back_to(scene: Scene, engine: str) -> str:
    with under_load(scene.target()) as count:
        done = scene.control.play("rollback", *LIMIT, "-e", "rollback_to=engine")
        _expect_engine(scene, engine)
    judged = accept(scene, "-e", f"gateway_engine={engine}")
    return f"{engine} in {done.duration_s:.0f} s, {told(count)}, acceptance {judged}"


def _switch(scene: Scene, engine: str) -> str:
    scene.control.write_variables(gateway_engine=engine)
    done = scene.control.play("litellm_enforce", *LIMIT, *TAGS)
    again = scene.control.play("litellm_enforce", *LIMIT, *TAGS)
    expect(changed(again) == 0, f"the second apply changed {changed(again)}")
    _expect_engine(scene, engine)
    return f"{changed(done)} changes, then 0; acceptance {accept(scene)}"


def _expect_engine(scene: Scene, engine: str) -> None:
    processes = scene.on(API, "systemctl status litellm.service --no-pager").output
    expect(f"/opt/{engine}/" in processes, f"{engine} does not run:\n{processes}")


def running_version(scene: Scene) -> str:
    """Return the version of the arriero that answers."""
    found = re.search(r'"version"\s*:\s*"([^"]+)"', scene.ask("/arriero/status"))
    return found[1] if found else "?"


def gather_release(scene: Scene, version: str) -> None:
    """Gather the wheels of this checkout under another version."""
    source = scene.stage.folder / "next"
    _release(source, version)
    gather(scene, "--source", str(source))
    shutil.rmtree(source)


def _release(target: Path, version: str) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in PARTS:
        source = paths.REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    for name in ("pyproject.toml", "src/arriero/__init__.py"):
        file = target / name
        text = file.read_text(encoding="utf-8")
        line = re.compile(r'^((?:__)?version(?:__)? = )".*"$', re.MULTILINE)
        file.write_text(line.sub(rf'\g<1>"{version}"', text), encoding="utf-8")
