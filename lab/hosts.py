"""The hosts of the specification, with addresses of TEST-NET-2 (RFC 5737) instead of its own."""

from dataclasses import dataclass

DOMAIN = "dev-test.hana-x.ai"
NETWORK = "198.51.100.0/24"
CONTROL_ADDRESS = "198.51.100.1"
PREFIX_BITS = 24

# Names of machines, links and tables begin so; a link's name has at most 15 characters.
PREFIX = "arl"


@dataclass(frozen=True)
class Host:
    """One host: its short name, as in the inventory, and its address."""

    name: str
    address: str
    group: str

    @property
    def fqdn(self) -> str:
        """The full name, which the lab's DNS server answers to."""
        return f"{self.name}.{DOMAIN}"

    @property
    def machine(self) -> str:
        """The name of its nspawn machine; nspawn calls the outer link `vb-<machine>`."""
        return f"{PREFIX}-{self.name.removeprefix('hx-').removesuffix('-server')}"


DC = Host("hx-dc", "198.51.100.2", "dc")
API = Host("hx-api-server", "198.51.100.5", "litellm")
LLM01 = Host("hx-llm01-server", "198.51.100.21", "llm")
LLM02 = Host("hx-llm02-server", "198.51.100.22", "llm")
WEBUI = Host("hx-webui-server", "198.51.100.31", "webui")

SHORT = (DC, API, LLM01, LLM02)
FULL = (*SHORT, WEBUI)
