"""Acceptance: the deployment's own playbook, and the evidence that it leaves."""

import json
from pathlib import Path

from lab.hosts import API
from lab.problems import expect
from lab.scene import Scene

MANIFEST = "manifest.sha256"


def accept(scene: Scene, *arguments: str) -> str:
    """Run the acceptance playbook; it must say GO and leave a bundle whose checksums hold."""
    bundle = bundle_of(scene, *arguments)
    files = sum(1 for path in bundle.rglob("*") if path.is_file())
    return f"GO, {files} files of evidence"


def with_canary(scene: Scene) -> str:
    """Accept it with what Open WebUI's canary found: its chats, and the picture of one."""
    added = sorted(scene.evidence.glob("webui/*-canary/findings.json"))[:1]
    added.append(scene.evidence / "webui-canary.json")
    words = json.dumps({"hx_acceptance_added": [str(path) for path in added]})
    page = bundle_of(scene, "-e", words) / "report.html"
    html = page.read_text(encoding="utf-8")
    shown = [
        "Open WebUI&#x27;s canary",
        "chats through Open WebUI",
        "a chat in a browser",
        "data:image/png;base64,",
    ]
    for part in shown:
        expect(part in html, f"{page} does not show {part}")
    return f"GO; {page.parent.name}/report.html has the canary's chats and the picture"


def bundle_of(scene: Scene, *arguments: str) -> Path:
    """Run the acceptance playbook, and return the folder of its evidence."""
    before = set(scene.evidence.glob("litellm/*"))
    scene.control.play("acceptance", "--limit", API.name, *arguments)
    fresh = set(scene.evidence.glob("litellm/*")) - before
    expect(len(fresh) == 1, f"acceptance left {len(fresh)} bundles of evidence")
    bundle = fresh.pop()
    expect((bundle / MANIFEST).is_file(), f"{bundle} has no manifest")
    scene.shell.run(["sha256sum", "--quiet", "-c", MANIFEST], folder=bundle)
    return bundle
