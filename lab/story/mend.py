"""What a deployment must outlive: another key, a release from an index, a host that is lost."""

import json
import shlex

from lab.accounts import ANN, BOB, OpenWebui
from lab.control import LIMIT, changed
from lab.hosts import API
from lab.index import index_of
from lab.problems import expect
from lab.scene import Scene
from lab.story import change, ground
from lab.story.accept import accept
from lab.story.deploy import gather

INDEX_VERSION = "0.1.2"
UNAUTHORIZED = 401
OK = 200
OWN_KEY = "open-webui"  # its alias
# All that a deployment puts on the gateway's host, and what its credential is encrypted to.
LOSE_EVERYTHING = """\
systemctl disable -q --now litellm.socket litellm.service
rm -rf /opt/arriero /opt/litellm /opt/hx-gateway /etc/litellm /etc/systemd/system/litellm.*
rm -rf /etc/systemd/system/arriero.* /var/lib/systemd/credential.secret /var/lib/arriero
userdel litellm
systemctl daemon-reload
"""


def rotate_key(scene: Scene) -> str:
    """Give the vault another master key and apply: the old one ends, and Open WebUI goes on."""
    old = scene.control.master_key
    scene.control.write_vault()
    done = scene.control.play("litellm_enforce", *LIMIT, *change.TAGS)
    statuses = (scene.status_with(old), scene.status_with(scene.control.master_key))
    expect(statuses == (UNAUTHORIZED, OK), f"the old and the new key are answered {statuses}")
    words = json.dumps({"hx_webui_canary_members": [ANN], "hx_webui_canary_watch_s": 0})
    site = scene.control.play("webui_canary", "-e", words)
    webui = OpenWebui(scene.stage.ssh.folder)
    answer = webui.chat(webui.sign_in(BOB), f"gw.{scene.alias}", "Say hello.")
    expect(answer.strip(), "Bob got no answer")
    again = scene.control.play("litellm_enforce", *LIMIT, *change.TAGS)
    expect(changed(again) == 0, f"the second apply changed {changed(again)}")
    took = f"gateway in {done.duration_s:.0f} s, Open WebUI in {site.duration_s:.0f} s"
    return f"{took}; the old key gets {UNAUTHORIZED}, Bob chats"


def virtual_keys(scene: Scene) -> str:
    """Let the gateway keep keys: Open WebUI gets its own, and outlives the master key."""
    scene.control.write_variables(hx_litellm_proxy_virtual_keys=True)
    done = scene.control.play("litellm_enforce", *LIMIT, *change.TAGS)
    again = scene.control.play("litellm_enforce", *LIMIT, *change.TAGS)
    expect(changed(again) == 0, f"the second apply changed {changed(again)}")
    words = json.dumps({"hx_webui_canary_members": [ANN], "hx_webui_canary_watch_s": 0})
    scene.control.play("webui_canary", "-e", words)
    listed = scene.ask("/key/list?return_full_object=true")
    expect(OWN_KEY in listed, f"Open WebUI has no key of its own:\n{listed}")
    scene.control.write_vault()
    scene.control.play("litellm_enforce", *LIMIT, *change.TAGS)
    expect(scene.status_with(scene.control.master_key) == OK, "the new master key is refused")
    webui = OpenWebui(scene.stage.ssh.folder)
    answer = webui.chat(webui.sign_in(BOB), f"gw.{scene.alias}", "Say hello.")
    expect(answer.strip(), "Bob got no answer after the master key had changed")
    return f"{changed(done)} changes, then 0; another master key, and Bob chats on"


def from_index(scene: Scene) -> str:
    """Install a release from an index that the host reaches, by the same hashes, and go back."""
    change.gather_release(scene, INDEX_VERSION)
    before = change.running_version(scene)
    words = ("-e", f"arriero_version={INDEX_VERSION}", "-e", "gateway_install_from=index")
    with index_of(scene.control.wheels / f"arriero-{INDEX_VERSION}", without="arriero") as index:
        scene.on(API, f"printf %s {shlex.quote(index.pip_settings)} >/etc/pip.conf")
        try:
            done = scene.control.play("upgrade", *LIMIT, *words)
        finally:
            scene.on(API, "rm /etc/pip.conf")
    expect(change.running_version(scene) == INDEX_VERSION, "the release does not run")
    expect(index.fetched, "nothing was fetched from the index")
    scene.control.play("rollback", *LIMIT, "-e", "rollback_to=version")
    expect(change.running_version(scene) == before, "the release before does not run again")
    return f"{len(index.fetched)} wheels fetched, upgraded in {done.duration_s:.0f} s, and back"


def disaster(scene: Scene) -> str:
    """Lose all that the deployment put on the gateway's host, and make it anew."""
    gather(scene)
    scene.on(API, LOSE_EVERYTHING, check=False)
    gone = scene.on(API, "ls -d /opt/arriero /etc/litellm; getent passwd litellm", check=False)
    expect("litellm:" not in gone.output, f"it is not gone:\n{gone.output}")
    ground.preflight(scene)
    done = scene.control.play("litellm_enforce", *LIMIT, *change.TAGS)
    return f"applied in {done.duration_s:.0f} s with {changed(done)} changes; {accept(scene)}"
