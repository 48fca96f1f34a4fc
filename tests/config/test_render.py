"""The configuration in force: it loads again, says everything and shows no secret."""

from collections.abc import Callable

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.load import Loaded, load
from arriero.config.render import MASK, effective, effective_data
from arriero.config.settings import (
    Access,
    Backend,
    Config,
    Log,
    Model,
    Route,
    Routing,
    Secret,
    Server,
    Timeouts,
    Tls,
)

Load = Callable[..., Loaded]
KEY = "correct-horse-battery"


def unread(path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", path)


def again(config: Config) -> Config:
    """Return what the printed configuration loads as, secrets put back and without digest."""
    text = effective(config).replace(f"'{MASK}'", KEY)
    loaded = load("c.yaml", text.encode(), {}, unread)
    return msgspec.structs.replace(loaded.config, digest="")


def test_secrets_are_stars(keyed: Load) -> None:
    text = "backends: {a: {url: 'http://a:1', kind: openai, api_key: hunter2}}\nmodels: [{name: m}]"
    loaded = keyed(text)
    shown = effective(loaded.config)
    assert "hunter2" not in shown
    assert KEY not in shown
    assert shown.count(MASK) == 2


def test_all_defaults_are_written_out(keyed: Load) -> None:
    config = keyed("backends: [http://a:11434]\nmodels: [{name: m}]").config
    data = effective_data(config)
    assert data["server"]["port"] == 4000
    assert data["timeouts"]["load_s"] == 600
    assert data["models"] == [
        {
            "name": "m",
            "model": "m",
            "backends": ["a"],
            "keep_loaded": 0,
            "digests": "same",
            "overflow": "refuse",
            "options": {},
            "unsupported_tools": "drop",
            "client_options": "drop",
        }
    ]
    assert "digest" not in data


def test_it_is_plain_yaml_in_our_vocabulary(keyed: Load) -> None:
    config = keyed("backends: [http://a:11434]\nmodels: [{name: m}]").config
    assert yaml.safe_load(effective(config)) == effective_data(config)


seconds = st.floats(0.001, 10_000)
timeouts = st.builds(Timeouts, connect_s=seconds, load_s=seconds, total_s=seconds)
names = st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True)
models_there = st.sampled_from(["llama3:8b", "org/x:1", "yes", "8", "é ü", "null", "~"])
option = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.floats(0, 2),
    st.sampled_from(["a", "", "no", "1", "\u2028\n"]),
    st.lists(st.text(max_size=3), max_size=2).map(tuple),
)
some = st.integers(1, 9000)


@st.composite
def models(draw: st.DrawFn, backends: list[str]) -> Model:
    at = draw(st.lists(st.sampled_from(backends), min_size=1, unique=True))
    same = Route(backend="", model=draw(models_there), timeouts=draw(timeouts))
    varied = [
        Route(backend=name, model=draw(models_there), weight=draw(st.floats(0, 9)),
              timeouts=draw(st.one_of(timeouts, st.just(Timeouts()))))
        for name in at
    ]  # fmt: skip
    uniform = [msgspec.structs.replace(same, backend=name) for name in at]
    return Model(
        name=draw(names),
        routes=tuple(draw(st.sampled_from([varied, uniform]))),
        mode=draw(st.sampled_from([None, "chat", "embedding"])),
        strategy=draw(st.sampled_from([None, "round-robin"])),
        retries=draw(st.one_of(st.none(), st.integers(0, 16))),
        context=draw(st.one_of(st.none(), some)),
        keep_alive=draw(st.sampled_from([None, -1, 0, "10m"])),
        max_input_tokens=draw(st.one_of(st.none(), some)),
        options=draw(st.dictionaries(names, option, max_size=3)),
        tools=draw(st.sampled_from([None, True, False])),
        client_options=draw(st.sampled_from(["drop", "allow"])),
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    called = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    key = st.sampled_from([None, Secret(KEY)])
    backends = [
        Backend(name=name, url=f"http://{i}.host:1", api_key=draw(key), kind=draw(
            st.sampled_from(["ollama", "openai"])))
        for i, name in enumerate(called)
    ]  # fmt: skip
    listed = st.lists(models(called), min_size=1, max_size=3, unique_by=lambda model: model.name)
    return Config(
        backends=tuple(backends),
        models=tuple(draw(listed)),
        server=Server(
            port=draw(st.integers(0, 65_535)),
            heartbeat_s=draw(seconds),
            tls=draw(st.sampled_from([None, Tls(certificate="c", key="k")])),
        ),
        routing=Routing(retries=draw(st.integers(0, 16)), ejection_s=draw(seconds)),
        access=Access(master_key=Secret(KEY), metrics_public=draw(st.booleans())),
        log=Log(access=draw(st.sampled_from(["off", "stdout", "/var/log/a b.log"]))),
    )


@given(configs())
def test_what_is_printed_loads_as_the_same_settings(config: Config) -> None:
    assert again(config) == config
