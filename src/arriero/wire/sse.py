"""Server-sent events: bytes as they arrive in, the `data` of whole events out.

The rules are those of the WHATWG HTML standard, section 9.2.6: lines end with LF, CRLF or CR;
several `data` lines of one event are joined by LF; comments and the fields `id`, `event` and
`retry` are left out, because no answer of a model server means anything by them.
"""


class NewlineNormalizer:
    """Turn CRLF and CR into LF, across pieces.

    A CR ends its line at once; an LF that then begins the next piece belongs to it and is dropped.
    In JSON a carriage return is always escaped, so a bare one in a stream is a line's end.
    """

    __slots__ = ("after_cr",)

    def __init__(self) -> None:
        self.after_cr = False  # whether an LF at the start of the next piece is dropped

    def feed(self, data: bytes) -> bytes:
        """Return `data` with LF only."""
        if not data or not (self.after_cr or b"\r" in data):
            return data
        if self.after_cr and data.startswith(b"\n"):
            data = data[1:]
            if not data:
                self.after_cr = False
                return data
        self.after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class BlockSplitter:
    """Cut a stream with LF line ends at its blank lines; what lies between is one event.

    Remembers how far it has searched for a blank line, so that a trickle costs O(n).
    """

    __slots__ = ("_event_bytes_max", "_held", "_searched")

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._held = bytearray()  # the event that has not ended yet
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that `data` completes, without the blank lines that end them."""
        if not self._held:
            blocks = data.split(b"\n\n")
            rest = blocks.pop()
        else:
            self._held += data
            if self._held.find(b"\n\n", max(self._searched - 1, 0)) < 0:
                blocks, rest = [], None
            else:
                blocks = bytes(self._held).split(b"\n\n")
                rest = blocks.pop()
        if blocks and max(map(len, blocks)) > self._event_bytes_max:
            raise ValueError(f"an event is longer than {self._event_bytes_max} bytes")
        self._hold(rest)
        return blocks

    def _hold(self, rest: bytes | None) -> None:
        if rest is not None:
            self._held[:] = rest
        self._searched = len(self._held)
        # The last byte may be the first half of the blank line, and no part of the event.
        if self._searched > self._event_bytes_max + 1:
            raise ValueError(f"an event is longer than {self._event_bytes_max} bytes")


class EventSplitter:
    """Read an event stream; an event longer than `event_bytes_max` is a ValueError."""

    __slots__ = ("_blocks", "_newlines")

    def __init__(self, event_bytes_max: int) -> None:
        self._newlines = NewlineNormalizer()
        self._blocks = BlockSplitter(event_bytes_max)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that `data` completes; events without data are skipped."""
        payloads = []
        for block in self._blocks.feed(self._newlines.feed(data)):
            if block.startswith(b"data: ") and b"\n" not in block:
                payloads.append(block[6:])  # every model server writes its events so
            else:
                payload = event_data(block)
                if payload is not None:
                    payloads.append(payload)
        return payloads


def event_data(block: bytes) -> bytes | None:
    """Return the data of one event, given its lines; None when it has no `data` line."""
    values = []
    # A byte order mark is legal before the first event only; nobody sends one elsewhere.
    for line in block.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values) if values else None
