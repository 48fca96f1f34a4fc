"""What scheduling knows of one request: whose it is, how urgent, and about how much work.

Theory. Nothing here is exact, and nothing needs to be. The estimates order a queue before the
backend has counted; what it counts then is settled. They must be cheap, because most requests never
wait: one division of the body's length, which was read anyway, is the estimate of the prompt.
"""

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from arriero.base.errors import BadRequest
from arriero.core.prefix import Chain
from arriero.core.principal import Principal
from arriero.wire.canonical import CanonicalRequest, Chat, Embedding, Message

# English prose has four to five bytes a token, code and JSON three to four.
BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 768  # what vision models make of a picture: a few hundred to a few thousand
OUTPUT_TOKENS = 256  # a usual answer, as long as nobody has counted
SESSION_CHARS_MAX = 128


class Priority(IntEnum):
    """The classes of the queue, the most urgent first."""

    INTERACTIVE = 0  # somebody watches the answer appear
    DEFAULT = 1
    EMBEDDING = 2  # one upload of a document is hundreds of these
    BACKGROUND = 3  # nobody waits for it


class Ask(msgspec.Struct, gc=False):
    """One request to the scheduler; token counts are estimates.

    `session` names the conversation if the client told it, so that its turns can go where the
    earlier ones are still in the cache; it is unique to the principal. `chain` is made of the
    request by who first looks for its beginning in caches.
    """

    principal: str
    priority: Priority
    session: str
    prompt_tokens: int
    output_tokens: int
    request: CanonicalRequest
    chain: Chain | None = None


def ask_for(
    headers: Mapping[bytes, bytes],
    principal: Principal,
    request: CanonicalRequest,
    body_bytes: int,
) -> Ask:
    """Return what the scheduler needs. Raises BadRequest on a priority that does not exist."""
    name = principal.name
    return Ask(
        name,
        priority_of(headers, request, trusted=principal.trusted),
        session_of(headers, name),
        prompt_tokens(request, body_bytes),
        output_tokens(request),
        request,
    )


# -- how urgent

PRIORITY_HEADER = b"x-arriero-priority"
TASK_HEADER = b"x-task"

_BY_NAME = {priority.name.lower().encode(): priority for priority in Priority}
# Members, looked up on every request: an enumeration's attribute costs each time.
_INTERACTIVE, _DEFAULT, _EMBEDDING, _BACKGROUND = Priority

# What Open WebUI asks beside and after a chat, by the name it puts in place of `{{TASK}}` in a
# connection's header (open_webui/constants.py, TASKS). Nobody waits for these; for the others, as
# the search queries before an answer, somebody does.
_IDLE_TASKS = frozenset(
    (
        b"title_generation",
        b"tags_generation",
        b"follow_up_generation",
        b"emoji_generation",
        b"document_suggestions_generation",
    )
)
# The same tasks by how their prompts begin (open_webui/config.py, DEFAULT_*_PROMPT_TEMPLATE), for
# connections without that header. An administrator may have changed the prompts.
_IDLE_PROMPTS = (
    "### Task:\nGenerate a concise, 3-5 word title",
    "### Task:\nGenerate 1-3 broad tags",
    "### Task:\nSuggest 3-5 relevant follow-up",
    "Your task is to reflect the speaker's likely facial expression",
)


def priority_of(
    headers: Mapping[bytes, bytes], request: CanonicalRequest, *, trusted: bool
) -> Priority:
    """Return the class of a request: what it looks like, or what `x-arriero-priority` says.

    Everybody may step back, only a trusted key may step forward. Raises BadRequest on a word that
    is none of the classes, because a misspelt `background` would silently be in everybody's way.
    """
    natural = _natural_priority(headers, request, trusted=trusted)
    word = headers.get(PRIORITY_HEADER)
    if word is None:
        return natural
    wanted = _BY_NAME.get(word.lower())
    if wanted is None:
        raise BadRequest(
            "the header `x-arriero-priority` is none of the priority classes",
            param="x-arriero-priority",
            hint=f"one of {', '.join(name.decode() for name in _BY_NAME)}",
        )
    return wanted if trusted else max(wanted, natural)


def _natural_priority(
    headers: Mapping[bytes, bytes], request: CanonicalRequest, *, trusted: bool
) -> Priority:
    if request.stream:
        return _INTERACTIVE
    if type(request) is Embedding:
        return _EMBEDDING
    task = headers.get(TASK_HEADER)
    if task:
        if task in _IDLE_TASKS:
            return _BACKGROUND
        return _INTERACTIVE if trusted else _DEFAULT
    if type(request) is Chat and _is_idle_prompt(request.messages):
        return _BACKGROUND
    return _DEFAULT


def _is_idle_prompt(messages: list[Message]) -> bool:
    """Say whether this is a task of Open WebUI by its words; such a request is one user's turn."""
    if len(messages) != 1:
        return False
    content = messages[0].content
    return type(content) is str and content.startswith(_IDLE_PROMPTS)


# -- which conversation

_SESSION_HEADERS = (
    b"x-openwebui-chat-id",
    b"x-claude-code-session-id",
    b"x-session-id",
    b"session-id",
)


def session_of(headers: Mapping[bytes, bytes], principal: str) -> str:
    """Return the conversation a request belongs to, "" if its client did not say."""
    for name in _SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return f"{principal}:{value[:SESSION_CHARS_MAX].decode('latin-1')}"
    return ""


# -- how much work


def prompt_tokens(request: CanonicalRequest, body_bytes: int) -> int:
    """Return about how many tokens the prompt has, from the length of the body it came in."""
    if type(request) is Chat and not request.text_only:
        body_bytes = _text_bytes(request, body_bytes)
    return body_bytes // BYTES_PER_TOKEN + 1


def _text_bytes(chat: Chat, body_bytes: int) -> int:
    """Return the length with each picture at what it costs, and not at its megabytes of base64."""
    for message in chat.messages:
        if type(message.content) is not list:
            continue
        for part in message.content:
            if part.image_base64:
                body_bytes += IMAGE_TOKENS * BYTES_PER_TOKEN - len(part.image_base64)
    return max(body_bytes, 0)


def output_tokens(request: CanonicalRequest) -> int:
    """Return about how long the answer gets: no longer than its limit, and else a usual one."""
    if isinstance(request, Embedding):
        return 0
    limit = request.sampling.max_tokens
    if limit is None or limit < 0 or limit > OUTPUT_TOKENS:
        return OUTPUT_TOKENS
    return limit
