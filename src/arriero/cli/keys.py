"""`arriero keys`: make, show, change and end virtual keys."""

from typing import Annotated, Any, Final

import msgspec
import typer

from arriero.app.keydesk import KeyDesk
from arriero.cli.access import fail
from arriero.cli.key_options import (
    AsJson,
    KeyName,
    KeyNames,
    Where,
    desk,
    named,
    print_json,
    secret_from_stdin,
    table,
)
from arriero.cli.option_group import OptionGroup, grouped

PAGE: Final = 100
COLUMNS: Final = {
    "id": "token",
    "alias": "key_alias",
    "key": "key_name",
    "role": "role",
    "user": "user_id",
    "models": "models",
    "status": "status",
    "expires": "expires",
}
# Of the fields of a key, those that only LiteLLM has are left out for people.
SHOWN: Final = (
    "token_id", "key_alias", "key_name", "status", "role", "user_id", "models", "operations",
    "priority", "trusted", "expires", "previous_until", "rpm_limit", "tpm_limit",
    "max_parallel_requests", "tpd_limit", "tokens_per_month", "model_limits", "tags", "metadata",
    "team_id", "organization_id", "project_id", "agent_id", "created_at", "created_by",
    "updated_at", "updated_by",
)  # fmt: skip

keys = typer.Typer(
    name="keys",
    help="Make, show, change and end virtual keys, through the service or on its store.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Alias = Annotated[str | None, typer.Option(metavar="NAME", help="What people call the key.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="ALIAS", help="A model it is for, * for any characters; may be repeated."
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long it lives from now: 12h, 30d; -1 for ever."),
]
Owner = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Whose key it is.")]
RoleOption = Annotated[str | None, typer.Option(metavar="ROLE", help="user, admin or read_only.")]
Operations = Annotated[
    list[str] | None,
    typer.Option(
        "--operation",
        metavar="NAME",
        help="chat, completion, embedding or models; may be repeated. All, if none.",
    ),
]
PriorityOption = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS", help="The most urgent class: interactive, default, embedding, background."
    ),
]
Trusted = Annotated[
    bool | None,
    typer.Option("--trusted/--untrusted", help="It may name the user that it speaks for."),
]
Rpm = Annotated[int | None, typer.Option("--requests-per-minute", metavar="N", help="A limit.")]
Tpm = Annotated[int | None, typer.Option("--tokens-per-minute", metavar="N", help="A limit.")]
Concurrent = Annotated[
    int | None, typer.Option("--concurrent", metavar="N", help="Requests at once.")
]
Tpd = Annotated[int | None, typer.Option("--tokens-per-day", metavar="N", help="A budget.")]
Tpmonth = Annotated[int | None, typer.Option("--tokens-per-month", metavar="N", help="A budget.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="WORD", help="A tag; may be repeated.")
]
Metadata = Annotated[
    str | None, typer.Option(metavar="JSON", help="An object of your own, kept with the key.")
]
Clear = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD", help="A field of the API to clear, such as rpm_limit; may be repeated."
    ),
]
OwnSecret = Annotated[
    bool, typer.Option("--own-secret", help="Read the secret from standard input.")
]


class KeyFields(OptionGroup, frozen=True, kw_only=True):
    """What a key is to be; None was not given."""

    alias: Alias = None
    models: Models = None
    duration: Duration = None
    owner: Owner = None
    role: RoleOption = None
    operations: Operations = None
    priority: PriorityOption = None
    trusted: Trusted = None
    requests_per_minute: Rpm = None
    tokens_per_minute: Tpm = None
    concurrent: Concurrent = None
    tokens_per_day: Tpd = None
    tokens_per_month: Tpmonth = None
    tags: Tags = None
    metadata: Metadata = None

    def in_api_words(self) -> dict[str, Any]:
        """Return what was given, as the API calls it."""
        given = {
            _API_WORDS.get(name, name): value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not None
        }
        metadata = given.get("metadata")
        if metadata is not None:
            try:
                given["metadata"] = msgspec.json.decode(metadata)
            except msgspec.DecodeError as wrong:
                fail(f"--metadata: {wrong}", """--metadata '{"team": "a"}'""", code=2)
        return given


_API_WORDS: Final = {
    "alias": "key_alias",
    "owner": "user_id",
    "requests_per_minute": "rpm_limit",
    "tokens_per_minute": "tpm_limit",
    "concurrent": "max_parallel_requests",
    "tokens_per_day": "tpd_limit",
}


def tell_secret(made: dict[str, Any], *, as_json: bool, words: str) -> None:
    """Print a secret, alone, so that it can be piped; what there is to say goes to stderr."""
    if as_json:
        print_json(made)
        return
    alias = f" ({made['key_alias']})" if made["key_alias"] else ""
    typer.echo(f"{words} {made['token']}{alias}; its secret is shown this once", err=True)
    typer.echo(made["key"])


@keys.command()
@grouped
def create(
    *,
    wanted: KeyFields,
    own_secret: OwnSecret = False,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, this once and alone on stdout."""
    fields = wanted.in_api_words()
    if own_secret:
        fields["key"] = secret_from_stdin()
    with desk(where) as asked:
        made = asked.ask("POST", "/key/generate", fields)
    tell_secret(made, as_json=as_json, words="made")


@keys.command("list")
@grouped
def list_keys(
    *,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="An id, or a part of an alias.")
    ] = None,
    owner: Owner = None,
    status: Annotated[
        str | None, typer.Option(metavar="WORD", help="active, expired or revoked.")
    ] = None,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """List keys, the newest first."""
    query = {"search": search or "", "user_id": owner or "", "status": status or ""}
    with desk(where) as asked:
        found = _pages(asked, query)
    if as_json:
        print_json(found)
    else:
        table(found, COLUMNS)


@keys.command()
@grouped
def show(
    *,
    named_key: KeyName,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """Show a key, but for its secret."""
    with desk(where) as asked:
        (found,) = _infos(asked, [named(named_key)])
    _show(found, as_json=as_json)


@keys.command()
@grouped
def update(
    *,
    named_key: KeyName,
    wanted: KeyFields,
    clear: Clear = None,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """Change a key; what is not given stays as it is."""
    fields = wanted.in_api_words() | dict.fromkeys(clear or ())
    with desk(where) as asked:
        found = asked.ask("POST", "/key/update", {**fields, "key": named(named_key)})
    found.pop("key")  # as it was named, which may be by its secret
    _show(found, as_json=as_json)


@keys.command()
@grouped
def rotate(
    *,
    named_key: KeyName,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How long the old secret works on: 1h, 2d. No time, if none."
        ),
    ] = None,
    own_secret: OwnSecret = False,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """Give a key another secret and print it, this once and alone on stdout."""
    fields = {"key": named(named_key), "grace_period": grace}
    if own_secret:
        fields["new_key"] = secret_from_stdin()
    with desk(where) as asked:
        made = asked.ask("POST", "/key/regenerate", fields)
    tell_secret(made, as_json=as_json, words="rotated")


@keys.command()
@grouped
def block(
    *,
    named_key: KeyName,
    where: Where,
) -> None:
    """Refuse a key from its next request on."""
    with desk(where) as asked:
        found = asked.ask("POST", "/key/block", {"key": named(named_key)})
    typer.echo(f"blocked {found['token']}", err=True)


@keys.command()
@grouped
def unblock(
    *,
    named_key: KeyName,
    where: Where,
) -> None:
    """Let a blocked key in again."""
    with desk(where) as asked:
        found = asked.ask("POST", "/key/unblock", {"key": named(named_key)})
    typer.echo(f"unblocked {found['token']}", err=True)


@keys.command()
@grouped
def delete(
    *,
    named_keys: KeyNames,
    where: Where,
) -> None:
    """Delete keys, all or none; their usage and the audit are kept."""
    with desk(where) as asked:
        found = _infos(asked, [named(one) for one in named_keys])
        asked.ask("POST", "/key/delete", {"keys": [one["token_id"] for one in found]})
    for one in found:
        typer.echo(f"deleted {one['token_id']}", err=True)


@keys.command()
@grouped
def audit(
    *,
    of: Annotated[
        str | None, typer.Option("--of", metavar="KEY", help="Of this key only, by alias or id.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    where: Where,
    as_json: AsJson = False,
) -> None:
    """List who changed which key, the newest first."""
    with desk(where) as asked:
        found = asked.ask("GET", "/audit", query={"key": of or "", "limit": str(limit)})
    if as_json:
        print_json(found["entries"])
        return
    columns = {name: name for name in ("time", "actor", "action", "key", "client", "detail")}
    for entry in found["entries"]:
        entry["detail"] = ", ".join(entry["detail"].get("fields", ()))
    table(found["entries"], columns)


def _pages(asked: KeyDesk, query: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page, pages = 1, 1
    while page <= pages:
        now = {**query, "size": str(PAGE), "page": str(page), "return_full_object": "true"}
        answer = asked.ask("GET", "/key/list", query=now)
        found += answer["keys"]
        page, pages = page + 1, answer["total_pages"]
    return found


def _infos(asked: KeyDesk, names: list[str]) -> list[dict[str, Any]]:
    """Return keys by any of their names, which stay out of the address: one may be a secret."""
    found = [asked.ask("POST", "/v2/key/info", {"keys": [name]})["info"] for name in names]
    if not all(found):
        fail(f"there is no such key (number {found.index([]) + 1})", "arriero keys list", code=1)
    return [one[0] for one in found]


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name in SHOWN:
        value = found.get(name)
        if value not in (None, "", [], {}, False):
            told = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            typer.echo(f"{name:22} {told}")
