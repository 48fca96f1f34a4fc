"""The story: what is done on the stage, in its order."""

from lab.scene import Step
from lab.story import accept, deploy, ground, refuse, survive

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
FULL = SHORT
WITH_AD = (
    Step("hosts", ground.hosts),
    Step("domain", ground.domain),
    Step("preflight", ground.preflight),
)
STEPS = {"short": SHORT, "full": FULL, "with-ad": WITH_AD}
