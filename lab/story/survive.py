"""What users must not notice: restarts, reloads, a model host that dies."""

from lab.hosts import API
from lab.load import told, under_load
from lab.problems import expect
from lab.scene import Scene

UNIT = "litellm.service"


def restart(scene: Scene) -> str:
    """Restart the service twice while clients chat."""
    with under_load(scene.target()) as count:
        before = _pid(scene)
        for _ in range(2):
            scene.on(API, f"systemctl restart {UNIT}", timeout_s=120)
        expect(_pid(scene) != before, "the restart did not replace the process")
    return told(count)


def reload(scene: Scene) -> str:
    """Reload the configuration twice while clients chat; the process stays."""
    with under_load(scene.target()) as count:
        before = _pid(scene)
        for _ in range(2):
            scene.on(API, f"systemctl reload {UNIT}", timeout_s=120)
        expect(_pid(scene) == before, "the reload replaced the process")
    return told(count)


def _pid(scene: Scene) -> str:
    return scene.on(API, f"systemctl show -P MainPID {UNIT}").output.strip()
