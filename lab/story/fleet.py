"""Changes of the fleet while clients chat: a model host less, one more, and the way back."""

import json

from lab.control import LIMIT, changed
from lab.hosts import LLM01, LLM02, Host
from lab.load import told, under_load
from lab.problems import expect
from lab.scene import Scene
from lab.story.change import TAGS


def remove_backend(scene: Scene) -> str:
    """Take a model host's address out, and let the gateway read that, under load."""
    scene.control.write_variables(litellm_backends=[address_of(LLM01)])
    with under_load(scene.target()) as count:
        done = scene.control.play("litellm_enforce", *LIMIT, *TAGS)
        _expect_backends(scene, LLM01)
    return f"{changed(done)} changes in {done.duration_s:.0f} s; {told(count)}"


def add_backend(scene: Scene) -> str:
    """Add it as the runbook says: the host first, then the gateway, under load."""
    scene.control.write_variables()
    with under_load(scene.target()) as count:
        host = scene.control.play("backends", "--limit", LLM02.name)
        done = scene.control.play("litellm_enforce", *LIMIT, *TAGS)
        _expect_backends(scene, LLM01, LLM02)
    took = f"host in {host.duration_s:.0f} s, gateway in {done.duration_s:.0f} s"
    return f"{took}; {told(count)}"


def back_to_config(scene: Scene) -> str:
    """Go back to the configuration before, under load; a second time brings the later one back."""
    with under_load(scene.target()) as count:
        done = scene.control.play("rollback", *LIMIT, "-e", "rollback_to=config")
        _expect_backends(scene, LLM01)
        scene.control.play("rollback", *LIMIT, "-e", "rollback_to=config")
        _expect_backends(scene, LLM01, LLM02)
    again = scene.control.play("litellm_enforce", *LIMIT, *TAGS)
    expect(changed(again) == 0, f"an apply afterwards changed {changed(again)}")
    return f"there and back in {done.duration_s:.0f} s each; {told(count)}"


def address_of(host: Host) -> str:
    """Return a model host's address as `litellm_backends` has it."""
    return f"http://{host.fqdn}:11434"


def _expect_backends(scene: Scene, *hosts: Host) -> None:
    page = json.loads(scene.ask("/arriero/status"))
    names = sorted(backend["name"] for backend in page["backends"])
    expect(names == [host.name for host in hosts], f"the gateway has {names}")
