"""The real model, in a server process started as `arriero up` starts it; skipped without it."""

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from arriero.embedded.convert import load_weights
from arriero.embedded.template import DEFAULT_SYSTEM
from arriero.embedded.tokenizer import Tokenizer

MODEL = "smollm2:135m"
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a story about a llama driver."}]
GREEDY = {"temperature": 0, "num_predict": 40}


def post(url: str, path: str, body: dict[str, Any]) -> list[Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=50)
    connection.request("POST", path, json.dumps({"model": MODEL} | body))
    response = connection.getresponse()
    lines = [json.loads(line) for line in response.read().splitlines()]
    connection.close()
    assert response.status == 200, lines
    return lines


def say(url: str, messages: list[dict[str, str]], **changes: Any) -> tuple[list[str], Any]:
    """The pieces of a greedy answer, and the last line."""
    lines = post(url, "/api/chat", {"messages": messages, "options": GREEDY | changes})
    return [line["message"]["content"] for line in lines], lines[-1]


@pytest.fixture(scope="module")
def story(real_url: str) -> list[str]:
    pieces, last = say(real_url, STORY)
    assert last["eval_count"] == 40
    return [piece for piece in pieces if piece]


def test_it_knows_the_capital_of_france(real_url: str) -> None:
    pieces, last = say(real_url, CAPITAL)
    assert "Paris" in "".join(pieces)
    assert last["done_reason"] == "stop"
    assert last["prompt_eval_count"] == 37
    assert last["eval_duration"] > 0


def test_an_answer_cut_at_any_of_its_pieces_goes_on_to_the_same_text(
    real_url: str, story: list[str]
) -> None:
    for cut in (1, 7, 19, 38):
        begun = {"role": "assistant", "content": "".join(story[:cut])}
        rest, _ = say(real_url, [*STORY, begun], num_predict=40 - cut)
        assert "".join(rest) == "".join(story[cut:])


def test_an_answer_cut_before_a_space_goes_on_to_the_same_text(
    real_url: str, story: list[str]
) -> None:
    """Where a gateway cuts that does not know the tokens: at the end of a word."""
    text = "".join(story)
    for part in (3, 2):
        cut = text.index(" ", len(text) // part)
        rest, _ = say(real_url, [*STORY, {"role": "assistant", "content": text[:cut]}])
        assert "".join(rest).startswith(text[cut:])


def test_a_seed_makes_chance_repeat_itself(real_url: str) -> None:
    def drawn(seed: int) -> str:
        pieces, _ = say(real_url, STORY, temperature=1.0, seed=seed, num_predict=8)
        return "".join(pieces)

    assert drawn(1) == drawn(1)
    assert len({drawn(1), drawn(2), drawn(3)}) > 1


def test_related_texts_are_nearer_than_unrelated_ones(real_url: str) -> None:
    texts = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Stock prices fell sharply."]
    (answer,) = post(real_url, "/api/embed", {"input": texts})
    cat, kitten, stocks = answer["embeddings"]

    def product(left: list[float], right: list[float]) -> float:
        return sum(a * b for a, b in zip(left, right, strict=True))

    assert len(cat) == 576
    assert product(cat, cat) == pytest.approx(1.0, abs=1e-4)
    assert product(cat, kitten) > product(cat, stocks)


def test_the_vocabulary_splits_text_as_the_model_learnt_it(
    real_url: str, real_gguf: Path, cache_home: Path
) -> None:
    """Reference figures from the tokeniser that the model's authors publish."""
    header, _ = load_weights(real_gguf, cache_home / "arriero")
    assert DEFAULT_SYSTEM in header.chat_template
    tokenizer = Tokenizer(header.vocabulary)
    vocabulary = header.vocabulary.tokens
    texts = [vocabulary[token] for token in tokenizer.encode("What is 1234?<|im_end|>\n")]
    assert texts == ["What", "Ġis", "Ġ", "1", "2", "3", "4", "?", "<|im_end|>", "Ċ"]
    for text in ("héllo wörld", "日本語", "\N{LLAMA}" * 3, " \n\t x", "don't 3.14"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_taken_port_is_told_and_ends_the_process(real_url: str, cache_home: Path) -> None:
    port = str(urlsplit(real_url).port)
    ran = subprocess.run(
        [sys.executable, "-m", "arriero.embedded", "--port", port],
        capture_output=True,
        text=True,
        check=False,
        env={"XDG_CACHE_HOME": str(cache_home), "HOME": str(cache_home)},
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr
