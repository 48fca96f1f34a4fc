"""`arriero webui`: move Open WebUI to the gateway, for some people first, and back."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import msgspec
import typer

from arriero.app.client import AddressError, Endpoint
from arriero.app.clock import SystemClock
from arriero.app.smoke.finding import Finding, outcome
from arriero.app.webui import moves
from arriero.app.webui.api import OpenWebUI
from arriero.app.webui.overview import Offered, Overview, overview
from arriero.app.webui.plans import Asked, Plan, plan_canary, plan_promote, plan_rollback, standing
from arriero.app.webui.snapshot import Snapshot, load
from arriero.app.webui.trouble import Trouble
from arriero.app.webui.watch import Limits
from arriero.cli.access import GATEWAY_URL, KeyFile, UrlOption, fail, key_from
from arriero.cli.smoke import show

WEBUI_URL = "http://127.0.0.1:8080"
SECRET_BYTES_MAX = 65_536

webui = typer.Typer(
    name="webui",
    help="Move Open WebUI to the gateway, for some people first, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

WebuiOption = Annotated[
    str,
    typer.Option(
        "--webui", envvar="ARRIERO_WEBUI_URL", metavar="URL", help="Open WebUI's address."
    ),
]
Email = Annotated[
    str | None,
    typer.Option(
        envvar="ARRIERO_WEBUI_EMAIL",
        metavar="E-MAIL",
        help="An administrator of Open WebUI; the password is in --password-file or "
        "$ARRIERO_WEBUI_PASSWORD.",
    ),
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file that holds the password.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file that holds an administrator's API key or token, instead of a password; or "
        "$ARRIERO_WEBUI_TOKEN.",
    ),
]
SnapshotFile = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="FILE",
        help="Where the way back is kept; it holds keys. Without it, a file for each Open WebUI "
        "under $XDG_STATE_HOME/arriero.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be changed, and end.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Change without asking.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as one JSON document.")]
Watch = Annotated[
    float,
    typer.Option(
        "--watch",
        min=0,
        metavar="SECONDS",
        help="How long to chat through Open WebUI and judge; 0 is not at all.",
    ),
]
WatchEvery = Annotated[
    float, typer.Option("--every", min=0.1, metavar="SECONDS", help="Time between two chats.")
]
LatencyMax = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Most that 95 % of the chats, and of the gateway's first tokens, may take.",
    ),
]
ErrorsMax = Annotated[
    float, typer.Option(min=0, max=100, metavar="PERCENT", help="Most that may fail.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for a chat.")
]


@contextmanager
def told() -> Iterator[None]:
    """Say what stops the command, with its way out."""
    try:
        yield
    except AddressError as wrong:
        fail(str(wrong), "--webui http://HOST:8080, --url http://HOST:4000", code=2)
    except Trouble as trouble:
        fail(trouble.message, trouble.hint, code=trouble.code)


def secret(file: Path | None, variable: str) -> str:
    """Return what stands in the file, or else in the variable."""
    if file is None:
        return os.environ.get(variable, "").strip()
    try:
        with file.open("rb") as opened:
            return opened.read(SECRET_BYTES_MAX).decode().strip()
    except (OSError, UnicodeDecodeError) as wrong:
        fail(f"cannot read {file}: {wrong}", f"a readable file, or {variable}=...", code=2)


def entered(
    address: str, email: str | None, password_file: Path | None, token_file: Path | None
) -> OpenWebUI:
    """Return Open WebUI, entered as an administrator."""
    endpoint = Endpoint(address, SystemClock())
    token = secret(token_file, "ARRIERO_WEBUI_TOKEN")
    if token:
        return OpenWebUI(endpoint, token)
    password = secret(password_file, "ARRIERO_WEBUI_PASSWORD")
    if not email or not password:
        fail(
            "no administrator of Open WebUI given",
            "--email E-MAIL --password-file FILE, or --token-file FILE",
            code=2,
        )
    site = OpenWebUI(endpoint)
    site.sign_in(email, password)
    return site


def snapshot_path(given: Path | None, address: str) -> Path:
    """Return the file of the way back: the one given, or one for each Open WebUI."""
    if given is not None:
        return given
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    parts = urlsplit(address if "://" in address else f"http://{address}")
    name = f"{parts.hostname}-{parts.port or parts.scheme}"
    return Path(state) / "arriero" / "webui" / f"{name}.json"


def agreed(plan: Plan, *, yes: bool) -> None:
    """Go on when the changes are agreed to; where nobody can be asked, they are not."""
    if yes:
        return
    if not sys.stdin.isatty():
        count = len(plan.changes)
        fail(f"{count} changes wait for a yes", "--yes makes them, --dry-run shows them", code=2)
    if not typer.confirm("Make these changes?", err=True):
        fail("nothing was changed", "--dry-run shows what would be", code=1)


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
    group: Annotated[str, typer.Option(help="The group that begins.")] = "canary",
    member: Annotated[
        list[str] | None,
        typer.Option(metavar="E-MAIL", help="A member of the group; may be repeated."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="ALIAS", help="What members find chosen; the first alias, if none."),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ALIAS", help="An alias to offer; may be repeated. All that chat, if none."
        ),
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(help="Goes before the aliases, so that none is taken for a direct model."),
    ] = "gw",
    key_alias: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the key made for Open WebUI.")
    ] = "open-webui",
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
        members=tuple(member or ()),
        aliases=tuple(alias or ()),
        default=model,
        key_alias=key_alias,
    )
    clock = SystemClock()
    with told():
        gateway = Endpoint(url, clock)
        path = snapshot_path(snapshot, address)
        site = entered(address, email, password_file, token_file)
        old = load(path)
        old = None if old and old.rolled_back_unix_s is not None else old
        plan = plan_canary(site, gateway, asked, old)
        account = Account(as_json=as_json, webui=site.url, gateway=gateway.url, snapshot=str(path))
        account.plan(plan)
        if dry_run:
            account.end()
        if plan.changes:
            agreed(plan, yes=yes)
            begun = moves.begin(site, gateway, asked, plan, old, clock.unix_s())
            moves.carry_out_canary(site, gateway, asked, plan, (path, begun))
            account.done([f"canary: {group} chats with {plan.default}", f"way back: {path}"])
        if not watch:
            account.end()
        watching = moves.Watching(
            seconds=watch,
            every_s=every,
            timeout_s=timeout,
            limits=Limits(latency_max_s=latency_max, errors_max=errors_max / 100),
        )
        models = [record.id for record in plan.then.models]
        found = moves.watch_canary(site, (gateway, asked.key), models, watching, clock, words)
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
