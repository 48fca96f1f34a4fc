import os
import subprocess
import sys

import pytest

from arriero.embedded.parent import ParentGone, die_with_parent

CHILD = (
    "import os, time\n"
    "from arriero.embedded.parent import die_with_parent\n"
    "die_with_parent(os.getppid())\n"
    "print(os.getpid(), flush=True)\n"
    "time.sleep(60)\n"
)
# Starts the child, passes its process id on, and is killed before it can clean up.
PARENT = (
    "import os, signal, subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE)\n"
    "sys.stdout.buffer.write(child.stdout.readline())\n"
    "sys.stdout.flush()\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_a_child_ends_when_its_parent_is_killed() -> None:
    """The pipe of the child's output closes when the last process that holds it is gone."""
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert int(parent.stdout.readline()) > 0
        parent.wait(timeout=10)
        # The child inherited stderr: end of file means that it has ended as well.
        assert parent.stderr.read() == b""


def test_a_parent_that_is_already_gone_is_noticed() -> None:
    command = [sys.executable, "-m", "arriero.embedded", "--parent-pid", "1"]
    ran = subprocess.run(command, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_the_wrong_parent_is_the_wrong_parent() -> None:
    with pytest.raises(ParentGone):
        die_with_parent(os.getpid())
