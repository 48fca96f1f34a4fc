"""All stations of one model name, as bitmasks with one bit for each host."""

from arriero.core.prefix import Index
from arriero.core.residency import Residency
from arriero.core.speed import Paces

_LOADING, _LOADED = Residency.LOADING, Residency.LOADED


class Group:
    """All stations of one model name. Masks have one bit for each host.

    While a host loads the model, the hosts that do not have it in memory are not open: twenty
    requests for a cold model are one load and a short queue, not a load on every host.
    """

    __slots__ = ("digest", "free", "loading", "mixed", "model", "odd", "open", "paces", "prefixes",
                 "resident", "resort", "usable")  # fmt: skip

    def __init__(self, model: str) -> None:
        self.model = model
        self.usable = 0  # the model is there, as far as is known, and its breaker lets through
        self.free = 0  # a slot is free
        self.open = 0  # both
        self.resident = 0  # the model is loaded
        self.loading = 0  # the gateway is loading it, not for too long yet
        self.resort = 0  # ejected, but worth a try before a request is given up
        self.odd = 0  # other weights than those that are served
        self.digest = ""  # of the weights that are served
        self.mixed = False  # any weights may be served
        self.prefixes = Index()  # whose cache holds which prompts
        self.paces = Paces()  # how fast the hosts are with this model

    def _note_open(self) -> None:
        self.open = self.usable & self.free
        if self.loading:
            self.open &= self.resident | self.loading

    def set_usable(self, bit: int, usable: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether requests for the model may go to the host."""
        self.usable = self.usable | bit if usable else self.usable & ~bit
        self._note_open()

    def set_free(self, bit: int, free: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether the host has a slot for the model."""
        self.free = self.free | bit if free else self.free & ~bit
        self._note_open()

    def set_residency(self, bit: int, residency: Residency) -> None:
        """Note whether the host has the model loaded; its prompt cache goes when that goes."""
        if residency is not _LOADED and self.resident & bit:
            self.prefixes.forget(bit)
        self.resident = self.resident | bit if residency is _LOADED else self.resident & ~bit
        self.loading = self.loading | bit if residency is _LOADING else self.loading & ~bit
        self._note_open()

    def wait_no_more(self, bit: int) -> None:
        """The load on a host takes too long for others to wait for it."""
        self.loading &= ~bit
        self._note_open()
