"""Deployment: wheels, model hosts, the dry run, the apply, and a second one without changes."""

from lab import paths
from lab.control import LIMIT, changed
from lab.hosts import API
from lab.ollama import SIM_MODELS
from lab.problems import expect
from lab.scene import Scene


def wheelhouse(scene: Scene) -> str:
    """Gather the release of this checkout on the control node."""
    return gather(scene)


def gather(scene: Scene, *options: str) -> str:
    """Gather a release in the lab's own wheelhouse, and return what the script said of it."""
    script = paths.REPOSITORY / "scripts" / "wheelhouse"
    folder = scene.control.wheels
    done = scene.shell.run([script, "--out", folder, *options], timeout_s=900)
    return done.output.strip().splitlines()[-1].replace(f"{folder}/", "")


def backends(scene: Scene) -> str:
    """Make the model hosts what the gateway expects of them; a model they lack is pulled."""
    if scene.real:
        done = scene.control.play("backends", "--limit", "llm")
        return f"{changed(done)} changes"
    refused = scene.control.play("backends", "--limit", "llm", check=False)
    for words in ("NO-GO, nothing was changed", f"model {SIM_MODELS[1]}: found missing"):
        expect(words in refused.output, f"it does not say {words}:\n{refused.output[-2500:]}")
    expect(changed(refused) == 0, f"it changed {changed(refused)}")
    done = scene.control.play("backends", "--limit", "llm", "-e", "hx_ollama_pull=true")
    return f"{SIM_MODELS[1]} is missing: refused; then pulled, {changed(done)} changes"


def dry_run(scene: Scene) -> str:
    """Run the specification's first command, which must change nothing on the host."""
    before = fingerprint(scene)
    done = scene.control.play("litellm_enforce", *LIMIT, "-t", "critical", "--check", "--diff")
    expect(fingerprint(scene) == before, "the dry run changed the host")
    return f"would change {changed(done)}, changed nothing"


def apply(scene: Scene) -> str:
    """Run the specification's second command."""
    done = scene.control.play("litellm_enforce", *LIMIT, "-t", "critical,high")
    expect(changed(done) > 0, "the first apply changed nothing")
    active = scene.on(API, "systemctl is-active litellm.service").output.strip()
    expect(active == "active", f"litellm.service is {active}")
    return f"{changed(done)} changes; {scene.chat('Say hello.')!r}"


def apply_again(scene: Scene) -> str:
    """Run it once more: nothing may change."""
    done = scene.control.play("litellm_enforce", *LIMIT, "-t", "critical,high")
    expect(changed(done) == 0, f"the second apply changed {changed(done)}:\n{done.output[-3000:]}")
    return "changed=0"


def fingerprint(scene: Scene) -> str:
    """Return a digest of everything a deployment could change on the gateway's host."""
    return scene.on(
        API,
        "{ find /etc /opt /usr/local /var/lib -xdev -path /var/lib/systemd -prune"
        " -o -type f -print0 | sort -z | xargs -0 sha256sum;"
        " find /etc /opt /usr/local -xdev -printf '%p %M %u %g %l\\n' | sort;"
        " systemctl list-unit-files --no-pager --no-legend; getent passwd; getent group; }"
        " | sha256sum",
    ).output
