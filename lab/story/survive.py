"""What users must not notice: restarts, reloads, a model host that dies."""

from dataclasses import replace

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


def kill_backend(scene: Scene) -> str:
    """Kill a model host's service amidst chats and keep it down: whole answers never fail.

    Streams are asked for again once it is dead; one that had begun there ends with an error.
    """
    victim = scene.backends[0]
    with under_load(replace(scene.target(), streams=False)) as count:
        scene.on(victim, "systemctl kill -s KILL ollama.service; systemctl stop ollama.service")
    with under_load(scene.target(), settle=10) as after:
        pass
    scene.on(victim, "systemctl start ollama.service")
    return f"{told(count)}; with it dead {told(after)}"


def _pid(scene: Scene) -> str:
    return scene.on(API, f"systemctl show -P MainPID {UNIT}").output.strip()
