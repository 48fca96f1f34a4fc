"""The story: what is done on the stage, in its order."""

from lab.scene import Step
from lab.story import accept, change, deploy, fleet, ground, mend, people, refuse, survive, trouble

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
    Step("netplan-revert-at-boot", ground.netplan_revert_at_boot),
    *SHORT[2:],
    Step("doctor", trouble.doctor),
    Step("webui-ready", people.ready),
    Step("webui-canary", people.canary),
    Step("webui-browser", people.browser),
    Step("accept-canary", accept.with_canary),
    Step("webui-promote", people.promote),
    Step("webui-chats-go-on", people.chats_go_on),
    Step("rotate-key", mend.rotate_key),
    Step("upgrade-under-load", change.upgrade),
    Step("rollback-under-load", change.roll_back),
    Step("install-from-index", mend.from_index),
    Step("remove-backend-under-load", fleet.remove_backend),
    Step("add-backend-under-load", fleet.add_backend),
    Step("rollback-config-under-load", fleet.back_to_config),
    Step("engine-litellm", change.to_litellm),
    Step("engine-arriero", change.to_arriero),
    Step("rollback-engine-under-load", change.back_to_engine),
    Step("accept-again", accept.with_canary),
    Step("virtual-keys", mend.virtual_keys),
    Step("webui-rollback", people.roll_back),
    Step("disaster", mend.disaster),
)
WITH_AD = (
    Step("hosts", ground.hosts),
    Step("domain", ground.domain),
    Step("preflight", ground.preflight),
)
STEPS = {"short": SHORT, "full": FULL, "with-ad": WITH_AD}
