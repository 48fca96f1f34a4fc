"""Construct everything, once at the start and again at each reload."""

import logging
import secrets

from arriero.app.clock import SystemClock
from arriero.base.ids import IdSource
from arriero.config.settings import Config
from arriero.core.fleet import Fleet
from arriero.core.tally import SharedRoster
from arriero.fleet.pool import Pool, Spawn
from arriero.server.gateway import Gateway, Runtime
from arriero.telemetry.accesslog import AccessLog
from arriero.telemetry.sink import Sink


def build_runtime(
    config: Config,
    clock: SystemClock,
    spawn: Spawn,
    previous: Runtime | None = None,
    roster: SharedRoster | None = None,
) -> Runtime:
    """Return a configuration ready to serve; unchanged backends keep state and connections.

    `roster` is that of one of several workers. Raises TallyFull then.
    """
    before = previous.fleet if previous else None
    fleet = Fleet(config.backends, config.models, config.routing, before, roster)
    if roster is not None:
        roster.follow(fleet.hosts.values())
    pools: dict[str, Pool] = {}
    for name, host in fleet.hosts.items():
        if previous is not None and previous.fleet.hosts.get(name) is host:
            pools[name] = previous.pools[name]
        else:
            pools[name] = Pool(host.settings, spawn)
    return Runtime(config, fleet, pools, int(clock.unix_s()))


def build_gateway(
    runtime: Runtime, clock: SystemClock, sink: Sink | None, events: logging.Logger
) -> Gateway:
    """Return the data plane's shared state."""
    access_log = AccessLog(sink.write if sink is not None else None)
    ids = IdSource(secrets.randbits(64))
    return Gateway(runtime, clock, ids, access_log, events)
