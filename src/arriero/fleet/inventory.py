"""What each backend has and holds: polled, never asked for by a generation.

A generation just to look would load models and evict others; LiteLLM's health check does that.
One loop per backend asks `/api/tags` and `/api/ps` every interval, `/api/version` when the backend
is new or was away, and writes what it learns into the `Host`.
"""

import asyncio
import logging
from collections.abc import Callable

from arriero.base.clock import Clock
from arriero.config.settings import Routing
from arriero.core.copies import settle_digests
from arriero.core.fleet import Fleet
from arriero.core.health import Cause
from arriero.core.residency import restarted
from arriero.core.roster import Host
from arriero.fleet.errors import UpstreamError
from arriero.fleet.fetch import fetch
from arriero.fleet.pool import Pool
from arriero.wire.inventory import (
    Listed,
    decode_openai_models,
    decode_ps,
    decode_tags,
    decode_version,
)

_log = logging.getLogger("arriero.fleet")

STATUS_OK = 200
STATUS_NOT_FOUND = 404


class Inventory:
    """Keeps one host's facts fresh."""

    def __init__(
        self,
        host: Host,
        pool: Pool,
        routing: Routing,
        clock: Clock,
        on_ejected: Callable[[str], None],
    ) -> None:
        self._host = host
        self._on_ejected = on_ejected
        self._pool = pool
        self._routing = routing
        self._clock = clock
        self.first_look = asyncio.Event()  # set when the first poll ended, well or not

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            self.first_look.set()
            await asyncio.sleep(self._routing.inventory_interval_s)

    async def poll(self) -> None:
        """Look once. A host that cannot be reached is a host that failed."""
        try:
            if self._host.settings.kind == "ollama":
                await self._poll_ollama()
            else:
                await self._poll_openai()
        except TimeoutError as error:  # before OSError, whose subclass it is
            self._failed(error, Cause.STATUS)
        except (OSError, UpstreamError) as error:
            self._failed(error, Cause.REFUSED)
        except ValueError as error:
            self._failed(error, Cause.STATUS)
        else:
            self._host.breaker.on_reachable(self._clock.now_s())

    async def _poll_ollama(self) -> None:
        host = self._host
        tags = decode_tags(await self._get(b"/api/tags"))
        resident = decode_ps(await self._get(b"/api/ps"))
        version = host.version
        if not version or host.installed is None or (host.resident and not resident):
            version = decode_version(await self._get(b"/api/version"))
        if restarted(set(host.resident), set(resident), host.version, version):
            _log.info("backend restarted", extra={"backend": host.name, "version": version})
            host.restarted()
        host.version = version
        host.looked(tags, resident)

    async def _poll_openai(self) -> None:
        status, body = await fetch(self._pool, b"/v1/models", self._routing.inventory_timeout_s)
        if status == STATUS_NOT_FOUND:  # it keeps no list: take the configuration's word
            self._host.installed = None
            return
        if status != STATUS_OK:
            raise ValueError(f"/v1/models answered {status}")
        self._host.installed = {name: Listed() for name in decode_openai_models(body)}

    async def _get(self, path: bytes) -> bytes:
        status, body = await fetch(self._pool, path, self._routing.inventory_timeout_s)
        if status != STATUS_OK:
            raise ValueError(f"{path.decode()} answered {status}")
        return body

    def _failed(self, error: Exception, cause: Cause) -> None:
        """Mark the host. A late answer weighs less than none: a loading host is slow, not dead."""
        host = self._host
        if cause is Cause.REFUSED:
            host.gone()
        if host.breaker.on_failure(self._clock.now_s(), probe=False, cause=cause):
            self._on_ejected(host.name)
            _log.warning(
                "backend ejected",
                extra={"backend": host.name, "reason": str(error) or type(error).__name__},
            )


def report_digests(fleet: Fleet) -> None:
    """Settle which weights are served where hosts differ, and log what that changes.

    The same tag with another digest is another model, and users would get either by chance.
    """
    for choice in settle_digests(fleet):
        level = logging.WARNING if choice.left_out else logging.INFO
        told = {"model": choice.model, "digest": choice.digest[:12], "backends": choice.left_out}
        _log.log(
            level, "same tag, different weights" if choice.left_out else "weights agree", extra=told
        )
