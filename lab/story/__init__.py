"""The story: what is done on the stage, in its order."""

from lab.scene import Step
from lab.story import accept, change, deploy, ground, people, refuse, survive

SHORT = (
    Step("hosts", ground.hosts),
    Step("preflight", ground.preflight),
    Step("wheelhouse", deploy.wheelhouse),
    Step("backends", deploy.backends),
    Step("wrong-inventory", refuse.wrong_inventory),
    Step("wrong-vault", refuse.wrong_vault),
    Step("dead-backend", refuse.dead_backend),
    Step("dry-run", deploy.dry_run),
    Step("apply", deploy.apply),
    Step("apply-again", deploy.apply_again),
    Step("accept", accept.accept),
    Step("restart-under-load", survive.restart),
    Step("reload-under-load", survive.reload),
    Step("kill-backend", survive.kill_backend),
)
FULL = (
    *SHORT[:2],
    Step("netplan-revert", ground.netplan_revert),
    *SHORT[2:],
    Step("webui-ready", people.ready),
    Step("webui-canary", people.canary),
    Step("webui-browser", people.browser),
    Step("webui-promote", people.promote),
    Step("webui-chats-go-on", people.chats_go_on),
    Step("upgrade-under-load", change.upgrade),
    Step("rollback-under-load", change.roll_back),
    Step("engine-litellm", change.to_litellm),
    Step("engine-arriero", change.to_arriero),
    Step("webui-rollback", people.roll_back),
)
WITH_AD = (
    Step("hosts", ground.hosts),
    Step("domain", ground.domain),
    Step("preflight", ground.preflight),
)
STEPS = {"short": SHORT, "full": FULL, "with-ad": WITH_AD}
