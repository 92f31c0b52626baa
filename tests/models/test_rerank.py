"""Rerankers: one score per pair by every road, and errors that say what to type.

The cross-encoders here are random BERTs of two layers that are made anew for each test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import BertConfig, BertForSequenceClassification, BertModel

from memos_engine.errors import BadLimit, BadName, ModelFailed, ModelUnavailable
from memos_engine.models.rerank import CrossEncoderReranker, FunctionReranker, checked_scores
from memos_engine.ports import Reranker
from memos_engine.testing.rerankers import RerankerTests
from tests.models.make_tiny import tokenizer

MAX_LENGTH = 40
QUERY = "where is the cat"
TEXTS = ["the cat", "", " \n", "a", "A much longer line of words.", "我", "\x00", "b c", "dog " * 200]


def make(folder: Path, *, labels: int = 1) -> Path:
    """Write a random cross-encoder as sentence-transformers publishes it."""
    torch.manual_seed(11)
    words = tokenizer()
    config = BertConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=labels,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", {"model_max_length": MAX_LENGTH})
    return folder


def write(folder: Path, name: str, value: object) -> None:
    """Replace one JSON file of a model's folder."""
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cross-encoder's folder that nobody changes."""
    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """Return a copy that may be changed."""
    return shutil.copytree(tiny, tmp_path / "copy")


# checked_scores -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [[3, -4], (3.0, -4.0), np.array([3, -4], np.float16), np.array([3, -4])])
def test_checked_scores_returns_float32(scores: ArrayLike) -> None:
    """Integers, lists and other float widths all become float32."""
    checked = checked_scores(scores, 2)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, [3, -4])


@pytest.mark.parametrize(
    ("scores", "fault"),
    [
        (1.0, "shape"),
        ([1.0], "shape"),
        ([[1.0], [2.0]], "shape"),
        ([1.0, 2.0, 3.0], "shape"),
        ([1.0, [2.0]], "no array of numbers"),
        (["a", "b"], "dtype"),
        ([True, False], "dtype"),
        ([None, 1.0], "dtype"),
        ([1j, 1.0], "dtype"),
        ([1.0, float("nan")], "nan for text 1 of 2"),
        ([float("-inf"), 1.0], "-inf for text 0"),
        ([1.0, 1e300], "1e[+]300 for text 1"),
    ],
)
def test_checked_scores_refuses_what_is_no_score(scores: ArrayLike, fault: str) -> None:
    """Each fault is named, with the text it happened for."""
    with pytest.raises(ModelFailed, match=fault):
        checked_scores(scores, 2)


# FunctionReranker -----------------------------------------------------------------------------------


def overlap(query: str, texts: list[str]) -> list[float]:
    """Score by shared words, as a function of somebody else's might."""
    words = set(query.split())
    return [len(words & set(text.split())) / (1 + len(words)) for text in texts]


class TestFunction(RerankerTests):
    """The shipped suite, over a wrapped function."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        """A reranker by shared words."""
        return FunctionReranker(overlap, fingerprint="overlap:1")


def test_function_reranker_hands_over_clean_text() -> None:
    """The function gets a list, without lone surrogates, and is not called for no texts."""
    seen: list[tuple[str, list[str]]] = []

    def score(query: str, texts: list[str]) -> NDArray[np.float64]:
        seen.append((query, texts))
        return np.arange(len(texts), dtype=np.float64)

    reranker = FunctionReranker(score, fingerprint="f")
    assert reranker.scores("q", ()).shape == (0,)
    np.testing.assert_array_equal(reranker.scores("q\ud800", ("a\udcffb", "c")), [0, 1])
    assert seen == [("q?", ["a?b", "c"])]
    assert reranker.fingerprint == "f"


def test_function_reranker_refuses_bad_answers() -> None:
    """A wrong shape is caught, as is a blank fingerprint."""
    with pytest.raises(ModelFailed, match=r"shape \(1, 2\) for 2 texts"):
        FunctionReranker(lambda query, texts: [[1.0] * len(texts)], fingerprint="f").scores("q", ["a", "b"])
    with pytest.raises(BadName, match="fingerprint"):
        FunctionReranker(overlap, fingerprint=" ")


# CrossEncoderReranker: one score by every road ------------------------------------------------------


class TestCrossEncoder(RerankerTests):
    """The shipped suite, over a tiny model."""

    @pytest.fixture
    def reranker(self, tiny: Path) -> Reranker:
        """A random cross-encoder."""
        return CrossEncoderReranker(tiny, batch_size=3)


def plain(folder: Path, query: str, text: str) -> float:
    """The logit of one pair by torch alone, as the model's own library computes it."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    words = tokenizer()
    words.no_padding()
    words.enable_truncation(MAX_LENGTH)
    pair = words.encode(query, text)
    with torch.inference_mode():
        output = model(
            input_ids=torch.tensor([pair.ids]),
            attention_mask=torch.tensor([pair.attention_mask]),
            token_type_ids=torch.tensor([pair.type_ids]),
        )
    return float(output.logits[0, 0])


def test_scores_are_the_models_own_logits(tiny: Path) -> None:
    """In the order of the texts, each is what the model says of that pair alone: query first, then text."""
    scores = CrossEncoderReranker(tiny, batch_size=4).scores(QUERY, TEXTS)
    np.testing.assert_allclose(scores, [plain(tiny, QUERY, text) for text in TEXTS], atol=1e-5)
    assert len(set(scores.round(3).tolist())) > 5
    turned = CrossEncoderReranker(tiny).scores("the cat", [QUERY])
    assert abs(turned[0] - scores[0]) > 1e-3


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_scores_do_not_depend_on_the_batch(tiny: Path, batch_size: int) -> None:
    """Sorting by length and padding are invisible; more texts than one window too."""
    alone = np.concatenate([CrossEncoderReranker(tiny).scores(QUERY, [text]) for text in TEXTS])
    reranker = CrossEncoderReranker(tiny, batch_size=batch_size)
    np.testing.assert_allclose(reranker.scores(QUERY, TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(reranker.scores(QUERY, TEXTS * 20), np.tile(alone, 20), atol=1e-5)


def test_of_a_long_pair_the_longer_side_is_cut(tiny: Path) -> None:
    """A huge text costs no more than its beginning, and a huge query leaves room for the text."""
    reranker = CrossEncoderReranker(tiny)
    long, longer, other = reranker.scores("a b c", ["d " * 40, "d " * 2_000_000, "e " * 40])
    assert abs(long - longer) < 1e-5
    assert abs(long - other) > 1e-3
    first, second = reranker.scores("a " * 2_000_000, ["d", "e"])
    assert abs(first - second) > 1e-3


def test_max_length_is_the_callers(tiny: Path) -> None:
    """A shorter limit cuts earlier and is part of the fingerprint; one beyond the model is refused."""
    short, own = CrossEncoderReranker(tiny, max_length=8), CrossEncoderReranker(tiny)
    np.testing.assert_allclose(short.scores("a", ["b c d e f g h"]), own.scores("a", ["b c d e"]), atol=1e-5)
    assert own.fingerprint == short.fingerprint.replace("max8", f"max{MAX_LENGTH}")
    assert CrossEncoderReranker(tiny, max_length=64).fingerprint.endswith("max64")
    with pytest.raises(BadLimit, match="64 tokens"):
        CrossEncoderReranker(tiny, max_length=65).scores("a", ["b"])
    for options in ({"max_length": 7}, {"batch_size": 0}):
        with pytest.raises(BadLimit, match="at least"):
            CrossEncoderReranker(tiny, **options)  # type: ignore[arg-type]  # -- each is a whole number


def test_positions_behind_the_padding_are_counted(folder: Path) -> None:
    """A model of RoBERTa's kind reads two tokens fewer than it has positions."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    changed = {"model_type": "xlm-roberta", "pad_token_id": 1, "max_position_embeddings": 34}
    write(
        folder, "config.json", {**config, **changed, "architectures": ["XLMRobertaForSequenceClassification"]}
    )
    assert CrossEncoderReranker(folder).fingerprint.endswith("max32")


def test_lone_surrogates_are_read_as_question_marks(tiny: Path) -> None:
    """Text that is not valid Unicode is scored, not refused."""
    odd, clean = CrossEncoderReranker(tiny).scores("a\ud83d", ["b\udcff", "b?"])
    assert abs(odd - clean) < 1e-6


def test_threads_share_the_loading(tiny: Path) -> None:
    """Four threads that race for the loading all get the right scores."""
    reranker, start = CrossEncoderReranker(tiny, batch_size=2), threading.Barrier(4)

    def work(_: int) -> NDArray[np.float32]:
        start.wait(timeout=60)
        return reranker.scores(QUERY, TEXTS)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(work, range(4))
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-6)


def test_fingerprint_follows_the_weights(tiny: Path, folder: Path) -> None:
    """A copy agrees; one changed byte does not."""
    fingerprint = CrossEncoderReranker(tiny).fingerprint
    kind, digest, *rest = fingerprint.split(":")
    assert (kind, len(digest), rest) == ("bert", 12, ["pair", "logit", "float32", f"max{MAX_LENGTH}"])
    assert CrossEncoderReranker(str(folder)).fingerprint == fingerprint
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert CrossEncoderReranker(folder).fingerprint != fingerprint


# CrossEncoderReranker: laziness and errors ----------------------------------------------------------


def refusal(model: Path | str) -> str:
    """The error of a model that cannot be had, once seen to end with what to type."""
    with pytest.raises(ModelUnavailable) as caught:
        CrossEncoderReranker(model).scores("a", ["b"])
    assert "hf download" in str(caught.value)
    assert "CrossEncoderReranker('/path/to/" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_that_lacks_a_file(folder: Path, name: str) -> None:
    """The missing file is named; pickled weights do not stand in for it."""
    (folder / name).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert name.partition(".")[0] in refusal(folder)


def test_no_folder_and_no_name(tmp_path: Path) -> None:
    """A path that is not there is not asked of the hub."""
    assert "no such folder" in refusal(tmp_path / "missing")
    assert "no such folder" in refusal(str(tmp_path / "missing"))


def test_broken_files_are_told(folder: Path) -> None:
    """JSON and weights that cannot be read are the model's fault, in our words."""
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    assert "cannot be loaded" in refusal(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert "config.json cannot be read" in refusal(folder)
    write(folder, "config.json", [])
    assert "names no model_type" in refusal(folder)


def test_other_models_are_refused(tmp_path: Path) -> None:
    """A classifier with two labels and a plain encoder are no rerankers."""
    assert "with 2 labels" in refusal(make(tmp_path / "two", labels=2))
    plain = make(tmp_path / "plain")
    config = BertConfig.from_pretrained(plain)
    BertModel(config).save_pretrained(plain)
    assert "BertModel with 1 labels" in refusal(plain)
    text = (plain / "config.json").read_text(encoding="utf-8")
    (plain / "config.json").write_text(text.replace("BertModel", "BertForSequenceClassification"), "utf-8")
    assert "lack classifier.bias" in refusal(plain)


def test_weights_that_yield_nan_fail(folder: Path) -> None:
    """Broken weights are an error, not a score."""
    model = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(ModelFailed, match="nan for text 0"):
        CrossEncoderReranker(folder).scores("a", ["b"])


def test_a_name_without_network_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's client is asked, offline and with an empty cache, and its error translated."""
    code = """
from memos_engine.models.rerank import *
from memos_engine.errors import ModelUnavailable
try:
    CrossEncoderReranker("cross-encoder/none-such").fingerprint
except ModelUnavailable as error:
    print(error)
"""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    printed = run_python(code)
    assert "hf download cross-encoder/none-such --local-dir none-such" in printed
    assert "the hub said" in printed


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


@pytest.mark.parametrize("missing", ["torch", "transformers", "tokenizers"])
def test_nothing_loads_before_it_is_needed(missing: str, tiny: Path) -> None:
    """The fingerprint needs no runtime; without one the error holds the pip command."""
    code = f"""
import sys
from memos_engine import CrossEncoderReranker, ModelUnavailable
reranker = CrossEncoderReranker({str(tiny)!r})
print(reranker.fingerprint[:4], reranker.scores("a", []).shape, end=" ")
print([name for name in ("torch", "transformers", "tokenizers") if name in sys.modules], end=" ")
sys.modules[{missing!r}] = None
try:
    reranker.scores("a", ["b"])
except ModelUnavailable as error:
    print(error)
"""
    printed = run_python(code)
    assert printed.startswith("bert (0,) [] ")
    assert "pip install 'memos-adapters[embed]'" in printed
