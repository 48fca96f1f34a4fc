"""What requests to Ollama's API may say, and which of it this model refuses.

Fields are those of Ollama's `api/types.go` that mean something here; all others are ignored, as
there. Refusals have Ollama's status codes and words, because gateways and clients read them.
"""

from typing import Final, TypeVar

import msgspec

from arriero.embedded.sampling import Options
from arriero.embedded.template import Turn

LIBRARY: Final = "registry.ollama.ai/library/"
AskedT = TypeVar("AskedT", bound="Asked")


class ApiError(Exception):
    """An answer other than 200; `{"error": message}` on the wire."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ChatMessage(msgspec.Struct):
    """A message of `/api/chat`; earlier tool calls and thinking mean nothing to this model."""

    role: str
    content: str | None = ""
    images: list[str] | None = None


class Asked(msgspec.Struct, kw_only=True):
    """What every request for the model may say."""

    model: str = ""
    options: Options | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None

    @property
    def sampling(self) -> Options:
        """The options, or Ollama's defaults."""
        return self.options or Options()


class Generation(Asked, kw_only=True):
    """What `/api/chat` and `/api/generate` have in common; `stream` is the default there."""

    stream: bool | None = None
    format: msgspec.Raw = msgspec.Raw()
    think: bool | str | None = None
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in lines."""
        return self.stream is not False


class ChatAsked(Generation, kw_only=True):
    """The body of `POST /api/chat`."""

    messages: list[ChatMessage] | None = None
    tools: list[msgspec.Raw] | None = None

    @property
    def turns(self) -> list[Turn]:
        """The conversation as the template wants it."""
        return [Turn(said.role, said.content or "") for said in self.messages or ()]


class GenerateAsked(Generation, kw_only=True):
    """The body of `POST /api/generate`."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    images: list[str] | None = None
    raw: bool = False

    @property
    def turns(self) -> list[Turn]:
        """The prompt as a conversation of one turn."""
        system = [Turn("system", self.system)] if self.system else []
        return [*system, Turn("user", self.prompt)]


class EmbedAsked(Asked, kw_only=True):
    """The body of `POST /api/embed`."""

    input: str | list[str] | None = None
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        """The texts to embed, one or many."""
        if isinstance(self.input, str):
            return [self.input] if self.input else []
        return self.input or []


class ShowAsked(Asked, kw_only=True):
    """The body of `POST /api/show`; `name` is the old word for `model`."""

    name: str = ""


def decode(body: bytes, kind: type[AskedT]) -> AskedT:
    """Return the request in `body`; what is not one is the client's error."""
    if not body:
        raise ApiError(400, "missing request body")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ApiError(400, str(error)) from error


def refuse_chat(asked: ChatAsked) -> None:
    """Raise ApiError for what the model cannot do in a chat."""
    if asked.tools:
        raise ApiError(400, f"{LIBRARY}{asked.model} does not support tools")
    _refuse_generation(asked, images=any(said.images for said in asked.messages or ()))


def refuse_generate(asked: GenerateAsked) -> None:
    """Raise ApiError for what the model cannot do with a prompt."""
    if asked.suffix:
        raise ApiError(400, f"{LIBRARY}{asked.model} does not support insert")
    _refuse_generation(asked, images=bool(asked.images))


def _refuse_generation(asked: Generation, *, images: bool) -> None:
    if asked.think:
        raise ApiError(400, f'"{asked.model}" does not support thinking')
    if images:
        raise ApiError(400, f'"{asked.model}" does not support vision')
    if bytes(asked.format) not in {b"", b"null", b'""'}:
        raise ApiError(400, f'"{asked.model}" does not support structured outputs')
