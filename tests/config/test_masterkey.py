"""Where the master key comes from, in which order, and which keys are refused."""

from collections.abc import Callable

import pytest

from arriero.config.load import Loaded
from arriero.config.problems import ConfigError

FLEET = "backends: [http://a:11434]\nmodels: [{name: m}]\n"
GOOD = "correct-horse-battery"
Load = Callable[..., Loaded]

# From the first that counts to the last: how each source is set, with its own key.
SOURCES: list[tuple[str, dict[str, bytes], dict[str, str]]] = [
    ("access: {master_key: in-the-file}\n", {}, {}),
    ("access: {master_key_file: key.txt}\n", {"key.txt": b"in-the-keyfile\n"}, {}),
    ("", {"/run/c/master_key": b"in-the-credential\n"}, {"CREDENTIALS_DIRECTORY": "/run/c"}),
    ("", {}, {"ARRIERO_MASTER_KEY": "in-our-variable"}),
    ("", {}, {"LITELLM_MASTER_KEY": "in-their-variable"}),
]
KEYS = [
    "in-the-file",
    "in-the-keyfile",
    "in-the-credential",
    "in-our-variable",
    "in-their-variable",
]


def key_of(loaded: Loaded) -> str:
    key = loaded.config.access.master_key
    assert key is not None
    return key.reveal()


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_the_first_source_counts(first: int, load_text: Load) -> None:
    text = FLEET
    files: dict[str, bytes] = {}
    environ: dict[str, str] = {}
    for more, its_files, its_environ in SOURCES[first:]:
        text += more if "access" not in text else ""
        files |= its_files
        environ |= its_environ
    assert key_of(load_text(text, files, **environ)) == KEYS[first]


def test_the_files_key_may_be_a_variable(load_text: Load) -> None:
    loaded = load_text(FLEET + "access: {master_key: os.environ/MINE}", MINE=GOOD)
    assert key_of(loaded) == GOOD


def test_litellms_vocabulary_has_the_same_sources(load_text: Load) -> None:
    text = "model_list: [{model_name: m, litellm_params: {model: m, api_base: 'http://a:11434'}}]\n"
    files = {"/c/master_key": b"in-the-credential"}
    assert key_of(load_text(text, LITELLM_MASTER_KEY=GOOD)) == GOOD
    assert key_of(load_text(text, files, CREDENTIALS_DIRECTORY="/c")) == "in-the-credential"
    own = (
        text + "general_settings: {master_key: os.environ/K}\nenvironment_variables: {K: in-here-1}"
    )
    assert key_of(load_text(own, K="out-there-1")) == "in-here-1"


def problem_of(
    load_text: Load, text: str, files: dict[str, bytes] | None = None, **environ: str
) -> tuple[int, int, str, str | None]:
    with pytest.raises(ConfigError) as caught:
        load_text(FLEET + text, files, **environ)
    (problem,) = caught.value.problems
    return problem.line, problem.column, problem.message, problem.hint


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ('""', "is empty"),
        ("sk-1234", "is publicly known"),
        ("SK-1234", "is publicly known"),
        ("changeme", "is publicly known"),
        ("7-chars", "has 7 characters; 8 to 512 are needed"),
        ("x" * 513, "has 513 characters; 8 to 512 are needed"),
        ("two words", "has characters that an HTTP header cannot carry"),
        ("schlüssel", "has characters that an HTTP header cannot carry"),
    ],
)
def test_bad_keys_are_refused_wherever_they_stand(
    key: str, complaint: str, load_text: Load
) -> None:
    found = problem_of(load_text, f"access:\n  master_key: {key}\n")
    assert found == (4, 15, f"the master key {complaint}", "make one with `openssl rand -hex 24`")
    bare = key.strip('"')
    found = problem_of(load_text, "", ARRIERO_MASTER_KEY=bare)
    assert found[:3] == (1, 1, f"the key in $ARRIERO_MASTER_KEY {complaint}")
    assert not bare or bare not in found[2]


@pytest.mark.parametrize("key", ["x" * 8, "x" * 512])
def test_keys_at_the_limits_are_taken(key: str, load_text: Load) -> None:
    assert key_of(load_text(FLEET, ARRIERO_MASTER_KEY=key)) == key


def test_a_bad_key_is_no_reason_to_look_further(load_text: Load) -> None:
    found = problem_of(load_text, "access: {master_key: ''}", LITELLM_MASTER_KEY=GOOD)
    assert found[2] == "the master key is empty"


def test_no_key_at_all_is_told(load_text: Load) -> None:
    message = "no master key: every call would be refused"
    assert problem_of(load_text, "")[:3] == (1, 1, message)
    assert problem_of(load_text, "access: {metrics_public: true}\n")[:3] == (3, 1, message)


def test_a_number_is_refused_without_being_shown(load_text: Load) -> None:
    found = problem_of(load_text, "access: {master_key: 12345678}")
    assert found[:3] == (3, 22, "`master_key` must be text")


def test_a_missing_key_file_is_told_at_its_name(load_text: Load) -> None:
    found = problem_of(load_text, "access:\n  master_key_file: no.txt\n", ARRIERO_MASTER_KEY=GOOD)
    assert found[:3] == (4, 20, "there is no file no.txt")


def test_two_keys_in_one_file_are_told(load_text: Load) -> None:
    text = f"access: {{master_key: {GOOD}, master_key_file: k}}"
    assert problem_of(load_text, text)[2] == "`master_key` and `master_key_file` are both given"


def test_a_credential_that_is_not_there_is_passed_over(load_text: Load) -> None:
    loaded = load_text(FLEET, CREDENTIALS_DIRECTORY="/run/c", ARRIERO_MASTER_KEY=GOOD)
    assert key_of(loaded) == GOOD


def test_a_key_that_is_not_text_shows_nothing(load_text: Load) -> None:
    files = {"k": b"\xff\xfe\x00secret-bytes"}
    found = problem_of(load_text, "access: {master_key_file: k}", files)
    assert found[2] == "the key in k has characters that an HTTP header cannot carry"


def test_a_placeholder_is_noted(load_text: Load) -> None:
    loaded = load_text(FLEET, ARRIERO_MASTER_KEY="sk-REDACT_LOCAL_MASTER")
    assert [note.message for note in loaded.notes] == [
        "the key in $ARRIERO_MASTER_KEY looks like a placeholder"
    ]


def test_loaded_settings_do_not_show_the_key(load_text: Load) -> None:
    assert GOOD not in repr(load_text(FLEET, ARRIERO_MASTER_KEY=GOOD))
