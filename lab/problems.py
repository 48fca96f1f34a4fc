"""What may go wrong in the lab, told to people."""


class LabProblem(Exception):
    """Something that ends the run; the message says what, and ends with a way out if one exists."""


class CannotRun(LabProblem):
    """This machine cannot run the lab at all: no root, no nspawn, another lab in the way."""


class CheckFailed(LabProblem):
    """A step of the story saw something else than it must."""


def expect(truth: object, message: str) -> None:
    """Raise `CheckFailed` with this message unless the truth is one."""
    if not truth:
        raise CheckFailed(message)
