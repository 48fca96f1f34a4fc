"""Every way a request can fail: whose fault, which status, whether a retry can help.

    GatewayError
    +-- ClientError                     the caller can mend it
    |   +-- BadRequest              400
    |   |   +-- AmbiguousRequest        ... and the connection is closed
    |   |   +-- ContextLengthExceeded
    |   |   +-- UnsupportedParameter
    |   +-- Unauthorized            401
    |   +-- Forbidden               403
    |   +-- UnknownModel            404
    |   +-- UnknownRoute            404
    |   +-- UnknownKey              404
    |   +-- MethodNotAllowed        405
    |   +-- PayloadTooLarge         413
    |   +-- ExpectationFailed       417
    |   +-- RequestTimeout          408
    |   +-- HeadersTooLarge         431
    |   +-- RateLimited             429
    |   +-- BudgetExceeded          429
    +-- BackendError                    a model server failed, and so did every other we could ask
    |   +-- BackendFailed           502
    |   +-- BackendTimeout          504
    +-- NoBackend                   503 nobody could even be asked
    +-- QueueFull                   429 no room to wait for a slot
    +-- QueueTimeout                503 waited for a slot until the deadline
    +-- Draining                    503 this gateway is stopping
    +-- NoStore                     501 keys and usage are kept nowhere
    +-- StoreDown                   503 the store cannot be asked now
    +-- InternalError               500 a defect of arriero

The shape on the wire belongs to the dialects (`wire/openai_*`); the words here never name a
backend's address, because they reach clients.
"""

from enum import Enum
from typing import ClassVar


class Fault(Enum):
    """Who has to change something so that the request can succeed."""

    CLIENT = "client"
    BACKEND = "backend"
    GATEWAY = "gateway"


class GatewayError(Exception):
    """A request's failure with all that a dialect needs to tell the client.

    `retryable` speaks to the client: True lets its SDK try again, False stops it (the gateway
    already tried everywhere), None leaves it to the status code.
    """

    status: ClassVar[int] = 500
    code: str = "internal_error"
    openai_type: ClassVar[str] = "server_error"
    fault: ClassVar[Fault] = Fault.GATEWAY
    retryable: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        hint: str | None = None,
        retry_after_s: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:  # an instance may know better than its class
            self.code = code
        self.message = message
        self.param = param
        self.hint = hint
        self.retry_after_s = retry_after_s

    @property
    def text(self) -> str:
        """The message with its way out, as one line for a client."""
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class ClientError(GatewayError):
    """The request itself has to change."""

    status = 400
    code = "invalid_request"
    openai_type = "invalid_request_error"
    fault = Fault.CLIENT


class BadRequest(ClientError):
    """The request breaks the contract of its API; `param` says where."""


class AmbiguousRequest(BadRequest):
    """Bytes that two parsers might read differently: answered, and the connection closed."""

    code = "malformed_request"


class UnsupportedParameter(BadRequest):
    """A parameter that no backend can honour and whose silent loss would change meaning."""

    code = "unsupported_parameter"


class ContextLengthExceeded(BadRequest):
    """The prompt does not fit the model's context."""

    code = "context_length_exceeded"


class Unauthorized(ClientError):
    """No key, or not one we know."""

    status = 401
    code = "invalid_api_key"


class Forbidden(ClientError):
    """A good key that may not do this."""

    status = 403
    code = "permission_denied"
    openai_type = "permission_error"


class UnknownModel(ClientError):
    """No alias of that name, or none of the fleet's hosts has its model installed."""

    status = 404
    code = "model_not_found"


class UnknownRoute(ClientError):
    """No such path."""

    status = 404
    code = "unknown_url"


class UnknownKey(ClientError):
    """No such key; only those who may see all keys are told."""

    status = 404
    code = "key_not_found"


class MethodNotAllowed(ClientError):
    """The path exists, the method does not; `allow` lists those that do, as the header does."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message, hint=f"use {allow}")
        self.allow = allow


class RequestTimeout(ClientError):
    """The client took too long to send its request."""

    status = 408
    code = "request_timeout"
    retryable = True


class PayloadTooLarge(ClientError):
    """A body over the configured limit."""

    status = 413
    code = "payload_too_large"


class ExpectationFailed(ClientError):
    """An `Expect` header that is not `100-continue` (RFC 9110, 10.1.1)."""

    status = 417
    code = "expectation_failed"


class HeadersTooLarge(ClientError):
    """A request head over the configured limit (RFC 6585, 5)."""

    status = 431
    code = "headers_too_large"


class BackendError(GatewayError):
    """Every backend that could be asked failed; the client's SDK must not multiply the attempts."""

    status = 502
    code = "backend_failed"
    fault = Fault.BACKEND
    retryable = False


class BackendFailed(BackendError):
    """A backend refused, broke off or answered nonsense."""


class BackendTimeout(BackendError):
    """A backend stayed silent longer than a configured timeout."""

    status = 504
    code = "backend_timeout"


class NoBackend(GatewayError):
    """No backend of this model may be asked now: all are down or ejected."""

    status = 503
    code = "no_backend_available"
    fault = Fault.BACKEND
    retryable = True


class RateLimited(ClientError):
    """A limit per minute is reached; it ends by itself."""

    status = 429
    code = "rate_limit_exceeded"
    openai_type = "rate_limit_error"
    retryable = True


class BudgetExceeded(ClientError):
    """The tokens of a day or a month are used up: trying again soon cannot help."""

    status = 429
    code = "insufficient_quota"
    openai_type = "insufficient_quota"
    retryable = False


class QueueFull(GatewayError):
    """No room to wait; `reason` says for whom: this `principal`, or anybody (`length`)."""

    status = 429
    code = "queue_full"
    openai_type = "rate_limit_error"
    retryable = True

    def __init__(self, message: str, *, reason: str, retry_after_s: int) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.reason = reason


class QueueTimeout(GatewayError):
    """The request waited for a slot until its deadline."""

    status = 503
    code = "queue_timeout"
    retryable = True


class Draining(GatewayError):
    """This gateway is going down and takes no new work."""

    status = 503
    code = "shutting_down"
    retryable = True


class NoStore(GatewayError):
    """The key API of a gateway that has no place for keys."""

    status = 501
    code = "no_store"
    retryable = False


class StoreDown(GatewayError):
    """Keys cannot be changed, nor usage be read, while the store is away; serving goes on."""

    status = 503
    code = "store_unavailable"
    retryable = True


class InternalError(GatewayError):
    """A defect in arriero; the log has the traceback under the request id."""

    retryable = False
