"""Reading the configuration from disk, with what lies around it."""

from pathlib import Path

import pytest

from arriero.app.configfile import read_config
from arriero.config.problems import ConfigError
from arriero.config.tree import FILE_BYTES_MAX

FLEET = "backends: [http://a:11434]\nmodels: [{name: m}]\n"


@pytest.fixture(autouse=True)
def _no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARRIERO_MASTER_KEY", "LITELLM_MASTER_KEY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def key_of(path: Path) -> str:
    key = read_config(path).config.access.master_key
    assert key is not None
    return key.reveal()


def test_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_MASTER_KEY", "from-the-environment")
    assert key_of(written(tmp_path, FLEET)) == "from-the-environment"


def test_key_files_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-key-file\n")
    path = written(tmp_path, FLEET + "access: {master_key_file: key}\n")
    assert key_of(path) == "from-a-key-file"
    path.write_text(FLEET + f"access: {{master_key_file: {tmp_path / 'key'}}}\n")
    assert key_of(path) == "from-a-key-file"


def test_systemd_hands_the_key_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "master_key").write_text("from-a-credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert key_of(written(tmp_path, FLEET)) == "from-a-credential"


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    path = written(tmp_path, FLEET + "access:\n  master_key_file: .\n")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (4, 20)
    assert problem.message == "cannot read .: Is a directory"


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none.yaml")


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, FLEET)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}:1:1: no master key")


def test_endless_files_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(Path("/dev/zero"))
    assert f"at most {FILE_BYTES_MAX:,} are read" in str(caught.value)
