"""Open WebUI: a canary group, a chat in a browser, everybody, and the way back."""

import json
import sys
from pathlib import Path

from lab import paths
from lab.accounts import ANN, BOB, OpenWebui
from lab.control import changed
from lab.hosts import WEBUI
from lab.ollama import REAL_MODEL
from lab.problems import expect
from lab.scene import Scene

QUESTION = "What is the capital of France?"
SCREENSHOT = paths.REPOSITORY / "tests" / "webui" / "screenshot.py"


def ready(scene: Scene) -> str:
    """See Open WebUI up, and chats through its direct connection to Ollama."""
    site = _site(scene)
    waited_s = site.wait()
    administrator = site.administrator()
    for email in (ANN, BOB):
        site.add(administrator, email)
    # Open WebUI only knows the models that somebody has listed since it started.
    expect(REAL_MODEL in site.models(administrator), "the direct connection offers no model")
    answer = site.chat(administrator, REAL_MODEL, QUESTION)
    expect(answer.strip(), "the direct connection answers nothing")
    return f"up after another {waited_s:.0f} s; direct Ollama says {answer.strip()!r}"


def canary(scene: Scene) -> str:
    """Give Ann's group the gateway; Bob keeps what he has; a second run changes nothing."""
    members = ("-e", json.dumps({"hx_webui_canary_members": [ANN]}))
    done = scene.control.play("webui_canary", *members)
    site = _site(scene)
    ann, bob = site.sign_in(ANN), site.sign_in(BOB)
    expect(_gateway_model(scene) in site.models(ann), f"{ANN} has {site.models(ann)}")
    expect(_gateway_model(scene) not in site.models(bob), f"{BOB} has {site.models(bob)}")
    expect(site.default(ann) == _gateway_model(scene), f"{ANN} finds {site.default(ann)!r}")
    again = scene.control.play("webui_canary", *members, "-e", "hx_webui_canary_watch_s=0")
    expect(changed(again) == 0, f"the second run changed {changed(again)}")
    return f"{changed(done)} changes, then 0; Ann finds {site.default(ann)}, Bob {site.models(bob)}"


def browser(scene: Scene) -> str:
    """Let Ann chat in a headless Chromium, and keep the picture."""
    before = _served(scene)
    picture = scene.evidence / "webui-canary.png"
    argv: list[str | Path] = [sys.executable, SCREENSHOT, "--webui", f"http://{WEBUI.fqdn}:8080"]
    argv += ["--email", ANN, "--password-file", _site(scene).password_file]
    argv += ["--model", _gateway_model(scene), "--question", QUESTION, "--picture", picture]
    argv += ["--findings", picture.with_suffix(".json")]
    answer = scene.control.named(argv, timeout_s=180).output.strip()
    expect(answer, "the browser shows no answer")
    expect(_served(scene) > before, "the gateway served nothing meanwhile")
    return f"Ann asked, and read {answer.splitlines()[-1]!r}: {picture.name}"


def promote(scene: Scene) -> str:
    """Give everybody the gateway."""
    done = scene.control.play("webui_promote")
    site = _site(scene)
    bob = site.sign_in(BOB)
    expect(site.default(bob) == _gateway_model(scene), f"{BOB} finds {site.default(bob)!r}")
    answer = site.chat(bob, _gateway_model(scene), QUESTION)
    expect(answer.strip(), "Bob got no answer")
    return f"{changed(done)} changes; Bob chats with {site.default(bob)}"


def chats_go_on(scene: Scene) -> str:
    """With a model host dead, let Bob chat through the gateway all the same."""
    victim = scene.backends[0]
    scene.on(victim, "systemctl kill -s KILL ollama.service; systemctl stop ollama.service")
    site = _site(scene)
    bob = site.sign_in(BOB)
    answers = [site.chat(bob, _gateway_model(scene), f"{QUESTION} {n}") for n in range(4)]
    scene.on(victim, "systemctl start ollama.service")
    expect(all(answer.strip() for answer in answers), f"an empty answer: {answers}")
    return f"{len(answers)} chats of Bob's answered with {victim.name} dead"


def roll_back(scene: Scene) -> str:
    """Take Open WebUI back to what it was: direct Ollama, and nothing of the gateway."""
    done = scene.control.play("webui_rollback")
    site = _site(scene)
    administrator = site.administrator()
    models = site.models(administrator)
    expect(_gateway_model(scene) not in models, f"still offered: {models}")
    answer = site.chat(administrator, REAL_MODEL, QUESTION)
    return f"{changed(done)} changes; direct Ollama says {answer.strip()!r}"


def _site(scene: Scene) -> OpenWebui:
    return OpenWebui(scene.stage.ssh.folder)


def _gateway_model(scene: Scene) -> str:
    return f"gw.{scene.alias}"


def _served(scene: Scene) -> int:
    """Return how many requests for this alias the gateway has finished."""
    metrics = scene.ask("/metrics")
    lines = [line for line in metrics.splitlines() if line.startswith("arriero_requests_total")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if scene.alias in line)
