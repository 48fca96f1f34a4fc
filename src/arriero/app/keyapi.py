"""Put the key API on a store of keys. It is imported when it is first asked, not to serve."""

from collections.abc import Callable

from arriero.app.keeper import Keeper
from arriero.base.clock import Clock
from arriero.core.access import is_master
from arriero.server.asgi import AsgiApp


def build_key_api(
    keeper: Keeper, clock: Clock, padded_master: Callable[[], bytes | None]
) -> AsgiApp:
    """Return the application; `padded_master` returns the master key of the moment."""
    from arriero.admin.app import build_app  # noqa: PLC0415 - Starlette, which serving does not need
    from arriero.admin.desk import Desk  # noqa: PLC0415 - the same

    return build_app(
        Desk(keeper, clock, lambda secret: is_master(secret.encode(), padded_master()))
    )
