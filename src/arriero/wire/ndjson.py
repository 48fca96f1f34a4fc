"""Newline-delimited JSON: bytes as they arrive in, whole lines out.

Only new bytes are searched and nothing is joined before a line is whole, so an answer that
trickles in byte by byte costs O(n) and not O(n²).
"""


class LineSplitter:
    """Cut a stream at its newlines; a line longer than `line_bytes_max` is a ValueError."""

    __slots__ = ("_held", "_held_bytes", "_line_bytes_max")

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._held: list[bytes] = []  # pieces of the line that has not ended yet
        self._held_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their newlines.

        Empty lines are returned too; a carriage return before the newline stays (JSON reads it as
        white space). After the ValueError of a line that is too long the splitter is of no use.
        """
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines:
            if self._held:
                self._held.append(lines[0])
                lines[0] = b"".join(self._held)
                self._held.clear()
            if self._held_bytes + len(data) > self._line_bytes_max:
                self._check(max(map(len, lines)))
            self._held_bytes = 0
        if rest:
            self._held.append(rest)
            self._held_bytes += len(rest)
            self._check(self._held_bytes)
        return lines

    def _check(self, length: int) -> None:
        if length > self._line_bytes_max:
            raise ValueError(f"a line is longer than {self._line_bytes_max} bytes")
