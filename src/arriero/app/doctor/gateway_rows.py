"""Rows about the gateway's answers: does it listen, whom does it let in, what does it offer."""

from collections.abc import Iterator

from arriero.app.client import Exchange
from arriero.app.doctor.diagnosis import Diagnosis, good, problem, unknown, warning
from arriero.app.doctor.facts import Facts, Gateway, Host
from arriero.app.smoke.answers import OK, UNAUTHORIZED, complaint, listed

SKEW_MAX_S = 5.0
CERTIFICATE_DAYS_MIN = 21.0
LISTEN = "not listening"
REFUSED = "401"
EMPTY = "no models"
CLOCK = "clock"
TLS = "certificate"
LOOPBACK = ("127.0.0.1", "::1")


def not_listening(facts: Facts) -> Iterator[Diagnosis]:
    """Tell why nothing answers at the gateway's address."""
    gateway = facts.gateway
    if gateway is None:
        return
    if not gateway.alive.error:
        yield from _answers(gateway)
        return
    symptom = f"{gateway.url}: {gateway.alive.error}"
    host = facts.host
    if not gateway.here or host is None:
        yield _silent_from_afar(gateway, symptom)
        return
    yield _silent_here(gateway, host, symptom)


def _answers(gateway: Gateway) -> Iterator[Diagnosis]:
    if gateway.alive.status == OK:
        yield good(LISTEN, f"{gateway.url} answers in {gateway.alive.took_s * 1000:.0f} ms")
        return
    yield problem(
        LISTEN,
        f"{gateway.url} answers, but not as a gateway: HTTP {gateway.alive.status}",
        cause="another program has the port, or the address has a path too much",
        evidence=[f"GET {gateway.alive.path}: HTTP {gateway.alive.status}"],
        fix=f"ss -ltnp 'sport = :{gateway.port}' on its host tells which program",
    )


def _silent_from_afar(gateway: Gateway, symptom: str) -> Diagnosis:
    error = gateway.alive.error or ""
    if "refused" in error and gateway.here:
        cause = "nothing listens there, and no gateway is installed on this host"
        fix = "start it (arriero serve --config FILE), or give --url the gateway's address"
    elif "refused" in error:
        cause = "nothing listens there, or it listens on its loopback address only"
        fix = "run arriero doctor on the gateway's host; server.host must be 0.0.0.0 or its address"
    elif "in time" in error:
        cause = "the host is down, or a firewall drops what is sent to the port"
        fix = f"ping it; on its host: nft list ruleset, ss -ltn 'sport = :{gateway.port}'"
    else:
        cause = "the name has no address here, or there is no way to it"
        fix = "dig the name at the DNS server; compare with the inventory"
    return problem(LISTEN, symptom, cause=cause, fix=fix)


def _silent_here(gateway: Gateway, host: Host, symptom: str) -> Diagnosis:
    """Go through the reasons on the gateway's own host, the most telling first."""
    holders = [f"{h.address} pid {h.pid} {h.command}".rstrip() for h in host.listeners]
    unit, config = host.unit, host.config
    if config is not None and (config.error or config.mistakes):
        found = [config.error] if config.error else list(config.mistakes)
        return problem(
            LISTEN,
            symptom,
            cause="the configuration cannot be run",
            evidence=[*found, *(unit.journal[-3:] if unit else ())],
            fix="mend it (arriero check FILE tells how), then systemctl restart",
        )
    if config is not None and config.file is not None and not config.file.readable:
        return problem(
            LISTEN,
            symptom,
            cause=f"the service's user may not read {config.file.path}",
            evidence=[_permissions(host)],
            fix=f"chgrp it to the service's group and chmod 0640 {config.file.path}",
        )
    if holders:
        return problem(
            LISTEN,
            symptom,
            cause=f"port {gateway.port} is held by a program that does not answer as a gateway",
            evidence=holders,
            fix="stop that program, or wait for it to let go; then systemctl restart the unit",
        )
    if unit is None or not unit.there:
        name = unit.name if unit else "the unit"
        return problem(
            LISTEN,
            symptom,
            cause=f"{name} is not installed on this host",
            fix="apply the playbook litellm_enforce.yml, or give --unit its name",
        )
    if config is not None and unit.active and config.port not in (0, gateway.port):
        return problem(
            LISTEN,
            symptom,
            cause=f"the configuration says port {config.port}",
            evidence=[f"{unit.name} is {unit.state}"],
            fix=f"ask --url http://HOST:{config.port}, or change the port and restart",
        )
    return problem(
        LISTEN,
        symptom,
        cause=f"{unit.name} is {unit.state}",
        evidence=_unit_evidence(host),
        fix=_unit_fix(host),
    )


def _permissions(host: Host) -> str:
    assert host.config is not None
    file = host.config.file
    assert file is not None
    user = host.unit.user if host.unit else "?"
    return f"{file.path} is {file.mode:04o} {file.owner}:{file.group}, the service is {user}"


def _unit_evidence(host: Host) -> list[str]:
    assert host.unit is not None
    known = host.unit.properties
    shown = [f"{n}={known[n]}" for n in ("Result", "ExecMainStatus", "NRestarts") if known.get(n)]
    return [" ".join(shown), *host.unit.journal[-10:]]


def _unit_fix(host: Host) -> str:
    assert host.unit is not None
    unit = host.unit
    if unit.properties.get("NeedDaemonReload") == "yes":
        return f"systemctl daemon-reload && systemctl restart {unit.name}"
    # systemd.exec(5), "Process Exit Codes": what happens before the program itself runs.
    if unit.properties.get("ExecMainStatus") == "203":
        return "the program is not where ExecStart= says, or ProtectHome= hides it; see the unit"
    if unit.properties.get("ActiveState") == "inactive":
        return f"systemctl enable --now {unit.name}"
    return f"journalctl -u {unit.name} -n 100, mend that, systemctl restart {unit.name}"


def unauthorized(facts: Facts) -> Iterator[Diagnosis]:
    """Tell about keys: the one given, and whether the gateway asks for any."""
    gateway = facts.gateway
    if gateway is None or gateway.stranger is None or gateway.stranger.error:
        return
    stranger = gateway.stranger
    if stranger.status == OK:
        yield problem(
            REFUSED,
            "the models are listed to anybody",
            cause="the gateway has no master key",
            evidence=[f"GET {stranger.path} without a key: HTTP 200"],
            fix="set general_settings.master_key (access.master_key), restart",
        )
    elif stranger.status != UNAUTHORIZED:
        yield warning(
            REFUSED,
            f"a missing key is answered with HTTP {stranger.status}, where 401 is right",
            cause="LiteLLM without the package prisma breaks before it can refuse",
            evidence=[complaint(stranger, UNAUTHORIZED) or ""],
            fix="install prisma beside it, or gateway_engine: arriero",
        )
    yield from _keyed(gateway.keyed, stranger)


def _keyed(keyed: Exchange | None, stranger: Exchange) -> Iterator[Diagnosis]:
    if keyed is None:
        yield unknown(REFUSED, "no key given, so none was tried", "ARRIERO_API_KEY, --key-file")
        return
    wrong = complaint(keyed, OK)
    if not wrong:
        if stranger.status == UNAUTHORIZED:
            yield good(REFUSED, "the key is taken, and strangers are refused")
        return
    yield problem(
        REFUSED,
        f"{wrong} with the given key",
        cause="the key is not the gateway's: mistyped, rotated, blocked or expired"
        if keyed.status in (400, UNAUTHORIZED, 403)
        else "the gateway fails before it looks at the key",
        evidence=[f"GET {keyed.path} with the key: HTTP {keyed.status}"],
        fix="compare with general_settings.master_key or the unit's credential; after a change of "
        "it, systemctl restart",
    )


def no_models(facts: Facts) -> Iterator[Diagnosis]:
    """Tell when health is green and there is nothing to use, or not what the file says."""
    gateway = facts.gateway
    if gateway is None or gateway.keyed is None or gateway.keyed.status != OK:
        return
    aliases = listed(gateway.keyed)
    config = facts.host.config if facts.host else None
    ready = gateway.ready is not None and gateway.ready.status == OK
    if not aliases:
        unprefixed = config.unprefixed if config else ()
        yield problem(
            EMPTY,
            "the list of models is empty" + (", though health is green" if ready else ""),
            cause="LiteLLM leaves out models without a provider, and starts all the same"
            if gateway.page is None
            else "no alias has a route",
            evidence=[f"no provider in: {', '.join(unprefixed)}"] if unprefixed else [],
            fix="write ollama_chat/MODEL in litellm_params.model; arriero check tells the line",
        )
        return
    if gateway.ready is not None and not ready and not gateway.ready.error:
        yield problem(
            EMPTY,
            f"not ready: HTTP {gateway.ready.status}",
            cause="no alias can be routed now",
            evidence=[f"listed: {', '.join(aliases)}"],
            fix="see the rows of the backends; arriero status",
        )
        return
    yield from _as_configured(facts, aliases)


def _as_configured(facts: Facts, aliases: list[str]) -> Iterator[Diagnosis]:
    config = facts.host.config if facts.host else None
    page = facts.gateway.page if facts.gateway else None
    missing = sorted(set(config.routes) - set(aliases)) if config else []
    old = page is not None and config is not None and config.digest not in ("", page.config_digest)
    if missing or old:
        yield warning(
            EMPTY,
            "the gateway does not run what its file says",
            cause="the file was changed since, or the reload failed",
            evidence=[f"not served: {', '.join(missing)}"] if missing else [],
            fix="arriero check FILE, then systemctl reload",
        )
        return
    yield good(EMPTY, f"{len(aliases)} aliases: {', '.join(aliases)}")


def clocks(facts: Facts) -> Iterator[Diagnosis]:
    """Tell about clocks that differ: signatures and certificates expire by them."""
    skews = [(backend.url, backend.skew_s) for backend in facts.backends]
    if facts.gateway is not None:
        skews.insert(0, (facts.gateway.url, facts.gateway.skew_s))
    known = [(url, skew_s) for url, skew_s in skews if skew_s is not None]
    away = [f"{url}: {skew_s:+.0f} s" for url, skew_s in known if abs(skew_s) > SKEW_MAX_S]
    if away:
        yield warning(
            CLOCK,
            f"clocks differ by more than {SKEW_MAX_S:g} s",
            cause="one of the hosts, perhaps this one, is not synchronised",
            evidence=away,
            fix="timedatectl timesync-status on each; systemctl enable --now systemd-timesyncd",
        )
    elif facts.host is not None and facts.host.clock_synchronised is False:
        yield warning(
            CLOCK,
            "this host's clock is not synchronised",
            cause="no time service runs, or its server does not answer",
            evidence=["NTPSynchronized=no"],
            fix="systemctl enable --now systemd-timesyncd",
        )
    elif known:
        yield good(CLOCK, f"within {SKEW_MAX_S:g} s on {len(known)} hosts")


def certificate(facts: Facts) -> Iterator[Diagnosis]:
    """Tell about a certificate that is refused, or soon will be."""
    gateway = facts.gateway
    if gateway is None:
        return
    if gateway.certificate_wrong:
        yield problem(
            TLS,
            f"{gateway.url}: {gateway.certificate_wrong}",
            cause="the certificate is not one that this host trusts for this name",
            fix="install the CA (update-ca-certificates), or renew server.tls.certificate",
        )
        return
    days = gateway.certificate_days
    if days is None:
        return
    if days < CERTIFICATE_DAYS_MIN:
        yield warning(
            TLS,
            f"the certificate expires in {days:.0f} days",
            cause="it was not renewed",
            evidence=[f"{days:.1f} days left"],
            fix="write the new pair over the old one: it is read again within seconds",
        )
        return
    yield good(TLS, f"good for {days:.0f} days")
