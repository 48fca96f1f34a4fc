"""Die with the parent: no model server may be left behind by a launcher that was killed."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class ParentGone(Exception):
    """The parent had already ended when this process came to tie itself to it."""


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends (prctl(2), Linux).

    The parent may have ended before the call, and then the signal never comes; comparing its
    process id afterwards closes that gap. Raises ParentGone then, OSError if prctl fails.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if os.getppid() != parent_pid:
        raise ParentGone
