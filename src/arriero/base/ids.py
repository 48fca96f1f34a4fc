"""Ids that never repeat within a process and hardly ever between two.

Ollama numbers its completions 0 to 998 and so repeats itself within minutes; a gateway's id must
name one request in every log. A process draws 64 random bits once (the caller gives them, this
layer knows no chance) and counts from there, which costs a tenth of drawing bits each time.
"""


class IdSource:
    """Mint ids of the form `<boot bits><count>`, in hex, for one process."""

    __slots__ = ("_boot", "_count")

    def __init__(self, boot_bits: int) -> None:
        self._boot = f"{boot_bits & 0xFFFFFFFFFFFFFFFF:016x}"
        self._count = 0

    def next_id(self) -> str:
        """Return a new id: 16 hex digits of this boot, then 8 or more of a counter."""
        self._count += 1
        return f"{self._boot}{self._count:08x}"
