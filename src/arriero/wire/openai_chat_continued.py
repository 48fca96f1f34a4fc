"""Go on in our own words with a chat stream that was passed on in a backend's."""

from arriero.wire.openai_chat_answer import ChatAnswer
from arriero.wire.openai_json import json_text


class ContinuedChatAnswer(ChatAnswer):
    """Writes the rest of a stream: under the id and time it has, and without a second role."""

    __slots__ = ()

    def __init__(
        self, whole_id: str, created: int, model_alias: str, *, include_usage: bool
    ) -> None:
        super().__init__(whole_id, created, model_alias, include_usage=include_usage)
        self._started = True
        self._open()

    def _begin(self, kind: bytes) -> bytes:
        """Return the constant head; a backend's id is what it is, whatever it begins with."""
        return b'{"id":%b,"object":"chat.completion%b","created":%d,"model":%b,"choices":' % (
            json_text(self._id.decode()),
            kind,
            self._created,
            self._model,
        )
