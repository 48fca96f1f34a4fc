"""All stations of one model name, as bitmasks with one bit for each host."""

from arriero.core.prefix import Index
from arriero.core.residency import Residency
from arriero.core.speed import Paces

_LOADING, _LOADED = Residency.LOADING, Residency.LOADED
# How many times the length of a load requests wait for a host that has the model: one for the load,
# one for loading again what it drives out. Of 0.5 to 8 the simulator liked 2 to 4 best.
PATIENCE = 2.0
_BREAK_S = 1.0  # when nobody waited for so long, waiting begins anew


class Group:
    """All stations of one model name. Masks have one bit for each host.

    While a host loads the model, the hosts that do not have it in memory are not open: twenty
    requests for a cold model are one load and a short queue, not a load on every host.

    A `patient` group (its aliases use `adaptive`) also rather waits for a slot of a host that has
    the model than to load it where that drives out another: a load takes longer than most answers,
    and somebody will want the other one back. That ends when requests have waited for `PATIENCE`
    loads without a break, or when no host that has the model can be asked.
    """

    __slots__ = (
        "_asked_s", "_since_s", "_spills", "context", "digest", "divergent", "empty", "free",
        "generating", "loading", "mixed", "model", "odd", "open", "paces", "patient", "prefixes",
        "resident", "resort", "usable",
    )  # fmt: skip

    def __init__(self, model: str) -> None:
        self.model = model
        self.usable = 0  # the model is there, as far as is known, and its breaker lets through
        self.free = 0  # a slot is free
        self.open = 0  # both
        self.resident = 0  # the model is loaded
        self.empty = 0  # no model is loaded
        self.loading = 0  # the gateway is loading it, not for too long yet
        self.resort = 0  # ejected, but worth a try before a request is given up
        self.generating = 0  # says that it generates text, and does not only embed
        self.odd = 0  # other weights than those that are served
        self.context = 0  # the largest that was seen loaded, in tokens
        self.digest = ""  # of the weights that are served
        self.mixed = False  # any weights may be served
        self.divergent = False  # hosts have different ones
        self.prefixes = Index()  # whose cache holds which prompts
        self.paces = Paces()  # how fast the hosts are with this model
        self.patient = False
        self._spills = False  # patience is at an end
        self._since_s = self._asked_s = float("-inf")

    def _note_open(self) -> None:
        self.open = self.usable & self.free
        if self.loading:
            self.open &= self.resident | self.loading
        elif self.patient and not self._spills and self.resident & self.usable:
            self.open &= self.resident | self.empty

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
        if residency is _LOADING:
            self._spills = False
            self._since_s = self._asked_s = float("-inf")
        self._note_open()

    def wait_no_more(self, bit: int) -> None:
        """The load on a host takes too long for others to wait for it."""
        self.loading &= ~bit
        self._note_open()

    def set_empty(self, bit: int, empty: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether a load on the host drives out nothing."""
        self.empty = self.empty | bit if empty else self.empty & ~bit
        self._note_open()

    def set_generating(self, bit: int, generating: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether the host says that the model generates text."""
        self.generating = self.generating | bit if generating else self.generating & ~bit

    def set_patient(self, patient: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Note whether requests wait for hosts that have the model."""
        self.patient = patient
        self._note_open()

    def wanted(self, now_s: float, able: int) -> None:
        """Somebody waits; told a few times a second as long as that is so.

        `able` are the hosts whose breakers are closed.
        """
        if now_s - self._asked_s > _BREAK_S:
            self._since_s = now_s
        self._asked_s = now_s
        if self._spills or not self.patient:
            return
        waited_s = now_s - self._since_s
        if waited_s >= PATIENCE * self.paces.load_s or not self.resident & self.usable & able:
            self._spills = True
            self._note_open()
