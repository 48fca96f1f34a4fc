"""What scheduling knows of one request: whose it is, how urgent, and about how much work.

Theory. Nothing here is exact, and nothing needs to be. The estimates order a queue before the
backend has counted; what it counts then is settled. They must be cheap, because most requests never
wait: one division of the body's length, which was read anyway, is the estimate of the prompt.
"""

import msgspec

from arriero.core.prefix import Chain
from arriero.core.principal import Caller, Priority, session_name
from arriero.wire.canonical import CanonicalRequest, Chat, Embedding, Message

__all__ = ["Ask", "Priority", "ask_for", "output_tokens", "priority_of", "prompt_tokens"]

# English prose has four to five bytes a token, code and JSON three to four.
BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 768  # what vision models make of a picture: a few hundred to a few thousand
OUTPUT_TOKENS = 256  # a usual answer, as long as nobody has counted


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


def ask_for(caller: Caller, request: CanonicalRequest, body_bytes: int) -> Ask:
    """Return what the scheduler needs."""
    if request.text_only:  # the common case, in one step
        tokens = body_bytes // BYTES_PER_TOKEN + 1
        limit = request.sampling.max_tokens
        output = OUTPUT_TOKENS if limit is None else output_tokens(request)
    else:
        tokens, output = prompt_tokens(request, body_bytes), output_tokens(request)
    session = caller.session or _session(caller, request)
    return Ask(caller.name, priority_of(caller, request), session, tokens, output, request)


def tokens_of(request: CanonicalRequest, body_bytes: int) -> int:
    """Return about how many tokens a request uses, prompt and answer."""
    if request.text_only:  # the common case, in one step
        limit = request.sampling.max_tokens
        if limit is None or not 0 <= limit <= OUTPUT_TOKENS:
            limit = OUTPUT_TOKENS
        return body_bytes // BYTES_PER_TOKEN + 1 + limit
    return prompt_tokens(request, body_bytes) + output_tokens(request)


def _session(caller: Caller, request: CanonicalRequest) -> str:
    """Return the conversation's name where the head has none: OpenAI's `prompt_cache_key`."""
    if type(request) is Chat and request.cache_key:
        return session_name(caller.name, request.cache_key)
    return ""


# -- how urgent

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


def priority_of(caller: Caller, request: CanonicalRequest) -> Priority:
    """Return the class of a request: what it looks like, or what its client wants.

    Everybody may step back, only a trusted key may step forward, and none before its own class.
    """
    if request.stream:
        natural = _INTERACTIVE
    elif type(request) is Embedding:
        natural = _EMBEDDING
    else:
        natural = _of_whole_answer(caller, request)
    wanted = caller.priority
    if wanted is None:
        wanted = natural
    elif not caller.trusted:
        wanted = max(wanted, natural)
    return max(wanted, caller.most_urgent)


def _of_whole_answer(caller: Caller, request: CanonicalRequest) -> Priority:
    if caller.task:
        if caller.task in _IDLE_TASKS:
            return _BACKGROUND
        return _INTERACTIVE if caller.trusted else _DEFAULT
    if type(request) is Chat and _is_idle_prompt(request.messages):
        return _BACKGROUND
    return _DEFAULT


def _is_idle_prompt(messages: list[Message]) -> bool:
    """Say whether this is a task of Open WebUI by its words; such a request is one user's turn."""
    if len(messages) != 1:
        return False
    content = messages[0].content
    return type(content) is str and content.startswith(_IDLE_PROMPTS)


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
    return OUTPUT_TOKENS if limit is None or not 0 <= limit <= OUTPUT_TOKENS else limit
