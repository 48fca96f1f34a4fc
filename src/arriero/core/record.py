"""What one request came to: written once, by settle; read by metrics, the access log and usage."""

import msgspec


class Record(msgspec.Struct, gc=False):
    """One request, from head to settlement. Times are seconds; no text of any prompt is in here."""

    request_id: str = ""
    method: str = ""
    client: str = ""  # peer address
    started_unix_s: float = 0.0
    path: str = ""
    status: int = 0
    code: str = ""  # of the error, if any
    alias: str = ""
    backend: str = ""  # the one that answered, or failed last
    operation: str = ""  # chat, completion, embedding, models, ...
    principal: str = ""  # who asked: "master" until there are keys
    stream: bool = False
    attempts: int = 0  # backends asked
    outcome: str = ""  # ok, client_error, backend_error, gateway_error, client_gone
    duration_s: float = 0.0
    first_token_s: float = -1.0  # since the start; -1: none was sent
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    ignored: str = ""  # parameters dropped by policy
    queue_s: float = 0.0  # waited here for a slot
    user: str = ""  # whom a trusted key named
    resumed: int = 0  # how often the stream went on elsewhere
    model: str = ""  # what the backend calls it
