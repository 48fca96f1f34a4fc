"""Acceptance: the deployment's own playbook, and the evidence that it leaves."""

from lab.hosts import API
from lab.problems import expect
from lab.scene import Scene


def accept(scene: Scene) -> str:
    """Run the acceptance playbook; it must say GO and leave a bundle whose checksums hold."""
    before = set(scene.evidence.glob("litellm/*"))
    scene.control.play("acceptance", "--limit", API.name)
    fresh = set(scene.evidence.glob("litellm/*")) - before
    expect(len(fresh) == 1, f"acceptance left {len(fresh)} bundles of evidence")
    bundle = fresh.pop()
    manifest = next(bundle.rglob("manifest.sha256"), None)
    if manifest is None:
        expect(manifest, f"{bundle} has no manifest")
        return ""
    scene.shell.run(["sha256sum", "--quiet", "-c", manifest.name], folder=manifest.parent)
    files = sum(1 for path in bundle.rglob("*") if path.is_file())
    return f"GO, {files} files of evidence"
