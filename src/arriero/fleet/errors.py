"""How a connection to a backend fails, told to the attempt that uses it."""


class UpstreamError(Exception):
    """Something went wrong between us and a backend."""


class UpstreamRefused(UpstreamError):
    """No connection: refused, unreachable, name unknown, or not within `connect_s`."""


class UpstreamFull(UpstreamRefused):
    """No connection because `connections_max` are in use: our own limit, no fault of the host."""


class UpstreamClosed(UpstreamError):
    """The connection ended before the response did."""


class UpstreamMalformed(UpstreamError):
    """The backend does not speak HTTP, or not within our limits."""
