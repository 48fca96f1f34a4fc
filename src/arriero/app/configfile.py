"""Reading the configuration: the one place where it meets files and the environment."""

import os
from pathlib import Path

from arriero.config.load import Loaded, load
from arriero.config.tree import FILE_BYTES_MAX


def read_config(path: Path) -> Loaded:
    """Return the settings in the file at `path`, with what there is to say about them.

    Files named inside it (`master_key_file`) are relative to its own folder.

    Raises:
        OSError: The file itself cannot be read.
        ConfigError: It must not be run; the error holds every mistake in it.
    """

    def read_file(name: str) -> bytes:
        return _read(path.parent / name)

    return load(str(path), _read(path), os.environ, read_file)


def _read(path: Path) -> bytes:
    """Return a file's bytes, but for what is beyond the limit: /dev/zero is a file, too."""
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)
