"""The story: what is done on the stage, in its order."""

from lab.scene import Step
from lab.story import accept, deploy, ground, survive

SHORT = (
    Step("hosts", ground.hosts),
    Step("preflight", ground.preflight),
    Step("wheelhouse", deploy.wheelhouse),
    Step("backends", deploy.backends),
    Step("dry-run", deploy.dry_run),
    Step("apply", deploy.apply),
    Step("apply-again", deploy.apply_again),
    Step("accept", accept.accept),
    Step("restart-under-load", survive.restart),
    Step("reload-under-load", survive.reload),
)
FULL = SHORT
