"""What the tests of the deployment share."""

from pathlib import Path

import pytest
from tests.deploy import playing


@pytest.fixture
def player(tmp_path: Path) -> playing.Player:
    why = playing.missing()
    if why:
        pytest.skip(why)
    folder = tmp_path / "control"
    folder.mkdir()
    return playing.Player(folder)
