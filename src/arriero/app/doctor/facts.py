"""What a diagnosis is made of. Nothing here is asked or judged."""

from msgspec import Struct

from arriero.app.client import Exchange
from arriero.app.exposition import Readings
from arriero.wire.status_page import StatusPage


class Gateway(Struct, frozen=True, kw_only=True):
    """What the gateway's address answers.

    `stranger` is the list of models asked for without a key, `keyed` with the given one, None when
    none was given. `certificate_days` is how long its certificate is good for. `here` tells whether
    the address is one of this host's, `skew_s` how far its clock is ahead of ours.
    """

    url: str
    port: int
    here: bool
    alive: Exchange
    ready: Exchange | None = None
    stranger: Exchange | None = None
    keyed: Exchange | None = None
    page: StatusPage | None = None
    readings: Readings | None = None
    certificate_days: float | None = None
    certificate_wrong: str | None = None
    skew_s: float | None = None


class Backend(Struct, frozen=True, kw_only=True):
    """What an Ollama host tells us directly: `rtts_s` of `/api/version`, digests by model name."""

    url: str
    error: str | None = None
    version: str | None = None
    rtts_s: tuple[float, ...] = ()
    models: dict[str, str] | None = None
    skew_s: float | None = None


class Unit(Struct, frozen=True, kw_only=True):
    """What systemd knows of the service: `systemctl show`, and the journal's last lines."""

    name: str
    properties: dict[str, str]
    journal: tuple[str, ...] = ()

    @property
    def there(self) -> bool:
        """Whether there is such a unit."""
        return self.properties.get("LoadState") == "loaded"

    @property
    def state(self) -> str:
        """Its state as `systemctl status` words it."""
        active, sub = (self.properties.get(name, "?") for name in ("ActiveState", "SubState"))
        return f"{active} ({sub})"

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self.properties.get("ActiveState") == "active"

    @property
    def user(self) -> str:
        """Whom it runs as."""
        return self.properties.get("User") or "root"


class Listener(Struct, frozen=True, kw_only=True):
    """A socket that listens on the gateway's port; `pid` 0 is one we may not look into."""

    address: str
    pid: int = 0
    command: str = ""


class File(Struct, frozen=True, kw_only=True):
    """A file's permissions, and whether the service's user may read it."""

    path: str
    mode: int
    owner: str
    group: str
    readable: bool


class ConfigFile(Struct, frozen=True, kw_only=True):
    """The configuration file: what it says, or what is wrong with it.

    `routes` has the backends' addresses and models by alias. `unprefixed` are models that LiteLLM
    leaves out without a word. `secret_inside` tells whether the key itself stands in it.
    """

    file: File | None = None
    error: str | None = None
    mistakes: tuple[str, ...] = ()
    digest: str = ""
    host: str = ""
    port: int = 0
    routes: dict[str, tuple[tuple[str, str], ...]] = {}
    unprefixed: tuple[str, ...] = ()
    weak_key: str | None = None
    secret_inside: bool = False


class Host(Struct, frozen=True, kw_only=True):
    """This host, when it is the gateway's."""

    unit: Unit | None = None
    config: ConfigFile | None = None
    listeners: tuple[Listener, ...] = ()
    clock_synchronised: bool | None = None


class Facts(Struct, frozen=True, kw_only=True):
    """Everything that was found out. `latency_max_s` is what is called slow."""

    gateway: Gateway | None = None
    host: Host | None = None
    backends: tuple[Backend, ...] = ()
    latency_max_s: float = 10.0
