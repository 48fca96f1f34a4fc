"""What can stop a command, in words, with a way out and an exit code."""


class Trouble(Exception):
    """The command cannot go on; `code` is 1 where something is wrong, 2 wrong use, 3 no answer."""

    def __init__(self, message: str, hint: str, code: int = 3) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
