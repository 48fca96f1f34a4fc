"""`arriero webui`: move Open WebUI to the gateway, for some people first, and back."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from arriero.app.client import Endpoint
from arriero.app.clock import SystemClock
from arriero.app.smoke.finding import Finding, outcome
from arriero.app.webui import moves
from arriero.app.webui.api import OpenWebUI
from arriero.app.webui.overview import Offered, Overview, overview
from arriero.app.webui.plans import Asked, Plan, plan_canary, plan_promote, plan_rollback, standing
from arriero.app.webui.snapshot import Snapshot, load
from arriero.app.webui.watch import Limits
from arriero.cli.access import GATEWAY_URL, KeyFile, UrlOption, key_from
from arriero.cli.smoke import show
from arriero.cli.webui_options import (
    WEBUI_URL,
    Aliases,
    AsJson,
    DefaultAlias,
    DryRun,
    Email,
    ErrorsMax,
    Group,
    KeyAlias,
    LatencyMax,
    Members,
    PasswordFile,
    Prefix,
    SnapshotFile,
    Timeout,
    TokenFile,
    Watch,
    WatchEvery,
    WebuiOption,
    Yes,
    agreed,
    entered,
    secret,
    snapshot_path,
    told,
)

webui = typer.Typer(
    name="webui",
    help="Move Open WebUI to the gateway, for some people first, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Account:
    """What a command has to tell: words as they come, or one document at the end."""

    def __init__(self, *, as_json: bool, **head: object) -> None:
        self._as_json = as_json
        self._document: dict[str, Any] = dict(head)

    def plan(self, plan: Plan) -> None:
        """Tell what is going to be changed."""
        self._document |= {
            "changes": [change.words for change in plan.changes],
            "notes": list(plan.notes),
            "default": plan.default or None,
        }
        for note in plan.notes:
            typer.echo(f"note: {note}", err=True)
        if not self._as_json:
            for change in plan.changes:
                typer.echo(f"change  {change.words}")
            if not plan.changes:
                typer.echo("nothing to change")

    def done(self, words: Sequence[str], **more: object) -> None:
        """Tell how it ended."""
        self._document |= {"done": list(words), **more}
        if not self._as_json:
            for line in words:
                typer.echo(f"done    {line}")

    def findings(self, found: Sequence[Finding]) -> None:
        """Tell what a watch found."""
        self._document["watch"] = [
            {"step": f.step, "verdict": f.verdict.value, "detail": f.detail, "hint": f.hint}
            for f in found
        ]
        if not self._as_json:
            show(list(found))

    def end(self, code: int = 0) -> NoReturn:
        """Print the document, if that is wanted, and end."""
        if self._as_json:
            typer.echo(json.dumps(self._document, indent=2))
        raise typer.Exit(code)


def words(text: str) -> None:
    """Say something on the way."""
    typer.echo(text, err=True)


@webui.command()
def canary(
    *,
    address: WebuiOption = WEBUI_URL,
    email: Email = None,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    url: UrlOption = GATEWAY_URL,
    key_file: KeyFile = None,
    group: Group = "canary",
    members: Members = None,
    model: DefaultAlias = None,
    aliases: Aliases = None,
    prefix: Prefix = "gw",
    key_alias: KeyAlias = "open-webui",
    snapshot: SnapshotFile = None,
    watch: Watch = 0.0,
    every: WatchEvery = 5.0,
    latency_max: LatencyMax = 30.0,
    errors_max: ErrorsMax = 1.0,
    timeout: Timeout = 600.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give a group the gateway's models, with a default of its own; others keep what they have.

    Direct Ollama stays. A second run changes nothing. The gateway's key comes from --key-file or
    $ARRIERO_API_KEY. Exit code 1 when the watch finds too many errors or too long a wait.
    """
    asked = Asked(
        key=key_from(os.environ.get("ARRIERO_API_KEY"), key_file),
        prefix=prefix,
        group=group,
        members=tuple(members or ()),
        aliases=tuple(aliases or ()),
        default=model,
        key_alias=key_alias,
    )
    watching = moves.Watching(
        seconds=watch,
        every_s=every,
        timeout_s=timeout,
        limits=Limits(latency_max_s=latency_max, errors_max=errors_max / 100),
    )
    with told():
        site = entered(address, email, password_file, token_file)
        sides = (site, Endpoint(url, SystemClock()), asked)
        begun = begin_canary(sides, snapshot_path(snapshot, address), (dry_run, yes, as_json))
        watch_canary(sides, begun, watching)


Sides = tuple[OpenWebUI, Endpoint, Asked]


def begin_canary(sides: Sides, path: Path, how: tuple[bool, bool, bool]) -> tuple[Plan, Account]:
    """Plan, tell, ask and carry out; `how` is a dry run, without asking, as JSON."""
    site, gateway, asked = sides
    dry_run, yes, as_json = how
    old = load(path)
    old = None if old and old.rolled_back_unix_s is not None else old
    plan = plan_canary(site, gateway, asked, old)
    account = Account(as_json=as_json, webui=site.url, gateway=gateway.url, snapshot=str(path))
    account.plan(plan)
    if dry_run:
        account.end()
    if plan.changes:
        agreed(plan, yes=yes)
        begun = moves.begin(site, gateway, asked, plan, old, SystemClock().unix_s())
        moves.carry_out_canary(site, gateway, asked, plan, (path, begun))
        account.done([f"canary: {asked.group} chats with {plan.default}", f"way back: {path}"])
    return plan, account


def watch_canary(sides: Sides, begun: tuple[Plan, Account], watching: moves.Watching) -> None:
    """Watch for as long as was asked for, tell, and end with what that comes to."""
    site, gateway, asked = sides
    plan, account = begun
    if not watching.seconds:
        account.end()
    models = [record.id for record in plan.then.models]
    found = moves.watch_canary(site, (gateway, asked.key), models, watching, SystemClock(), words)
    account.findings(found)
    account.end(outcome(found).value)


@webui.command()
def promote(
    *,
    address: WebuiOption = WEBUI_URL,
    email: Email = None,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="ALIAS", help="What everybody finds chosen; the canary's, if none."),
    ] = None,
    snapshot: SnapshotFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give everybody the gateway's models, and the canary's default.

    Direct Ollama stays. A second run changes nothing.
    """
    with told():
        path = snapshot_path(snapshot, address)
        old = standing(load(path))
        site = entered(address, email, password_file, token_file)
        plan = plan_promote(site, old, model)
        account = Account(as_json=as_json, webui=site.url, snapshot=str(path))
        account.plan(plan)
        if dry_run or not plan.changes:
            account.end()
        agreed(plan, yes=yes)
        moves.carry_out_promote(site, plan, (path, old))
    account.done([f"promoted: everybody finds {plan.default} chosen"])
    account.end()


@webui.command()
def rollback(
    *,
    address: WebuiOption = WEBUI_URL,
    email: Email = None,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="ARRIERO_URL",
            metavar="URL",
            help="The gateway's address, to delete the key that was made for Open WebUI.",
        ),
    ] = None,
    key_file: KeyFile = None,
    snapshot: SnapshotFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace also what others changed since.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put everything back as it was before the canary, and prove it by reading it back.

    Works without the gateway. Exit code 1 when something is not as it was.
    """
    clock = SystemClock()
    with told():
        path = snapshot_path(snapshot, address)
        old = load(path)
        account = Account(as_json=as_json, webui=address, snapshot=str(path), changes=[])
        if old is not None and old.rolled_back_unix_s is not None:
            account.done(["rolled back before; nothing to change"])
            account.end()
        old = standing(old)
        site = entered(address, email, password_file, token_file)
        plan = plan_rollback(site, old, force=force)
        account.plan(plan)
        if dry_run:
            account.end()
        if plan.changes:
            agreed(plan, yes=yes)
        done = moves.carry_out_rollback(site, plan, (path, old), clock.unix_s())
        done += dropped_key(old, url, key_file)
    account.done(done)
    account.end()


def dropped_key(old: Snapshot, url: str | None, key_file: Path | None) -> list[str]:
    """Delete Open WebUI's own key, if one was made, and tell."""
    if old.key_alias is None:
        return []
    key = secret(key_file, "ARRIERO_API_KEY")
    gateway = Endpoint(url or old.gateway, SystemClock())
    return [moves.drop_key(gateway, key, old.key_alias)]


@webui.command()
def status(
    *,
    address: WebuiOption = WEBUI_URL,
    email: Email = None,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    snapshot: SnapshotFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how far Open WebUI has moved: none, canary or promoted, and who may use what."""
    with told():
        site = entered(address, email, password_file, token_file)
        found = overview(site, load(snapshot_path(snapshot, address)))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        for name, value in rows(found):
            typer.echo(f"{name:<10}  {value}")


def rows(found: Overview) -> list[tuple[str, str]]:
    """Return the overview for people."""
    head = [
        ("open webui", f"{found.webui}, {found.version}"),
        ("phase", found.phase),
        ("fallback", ", ".join(found.fallback) or "none: no direct Ollama connection"),
    ]
    if found.gateway is None:
        return head
    return [
        *head,
        ("gateway", f"{found.gateway}, prefix {found.prefix or 'none'}"),
        ("group", f"{found.group or 'gone'}, {found.members} members, {found.group_default}"),
        ("default", found.default or "none"),
        *(("model", f"{model.id}: {who(model)}") for model in found.models),
    ]


def who(model: Offered) -> str:
    """Return who may use a model."""
    if model.everybody:
        return "everybody"
    return f"{model.groups} group{'s' * (model.groups != 1)}"
