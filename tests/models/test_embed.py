"""Sentence embedders: the same vectors by every road, and errors that say what to type.

`TINY` is a random BERT of one layer that is committed beside this file in both formats; the tests at
the end run the real all-MiniLM-L6-v2.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from memos_engine.errors import BadLimit, BadName, BadVector, EmbedderUnavailable
from memos_engine.models.embed import FunctionEmbedder, SentenceEmbedder, checked
from memos_engine.ports import Embedder
from tests.weights import minilm_folder

TINY = Path(__file__).parent / "tiny"
DIM, MAX_LENGTH = 16, 24
TEXTS = [
    "Hello world",
    "",
    " \n",
    "a",
    "A much longer line of words, with 2 numbers: 42.",
    "我",
    "\x00",
    "b c",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of TINY that may be changed."""
    return shutil.copytree(TINY, tmp_path / "copy")


@pytest.fixture
def torch_folder(folder: Path) -> Path:
    """Return a copy of TINY that only torch can run."""
    shutil.rmtree(folder / "onnx")
    return folder


def write(folder: Path, name: str, value: object) -> None:
    """Replace one JSON file of a model's folder."""
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


# checked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vectors", [[[3, 4]], [[3.0, 4.0]], np.array([[3, 4]], np.float16), np.array([[3e200, 4e200]]) / 1e190]
)
def test_checked_returns_unit_float32_rows(vectors: ArrayLike) -> None:
    """Integers, lists and other float widths all become unit float32 rows."""
    rows = checked(vectors, 1, 2)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8]], rtol=1e-3)


def test_checked_keeps_the_bits_of_unit_rows() -> None:
    """What is already of unit length is not touched: a stored vector equals a fresh one."""
    unit = checked(np.random.default_rng(1).normal(size=(50, 384)), 50, None)
    np.testing.assert_array_equal(checked(unit, 50, 384), unit)


def test_checked_leaves_the_callers_array_alone() -> None:
    """Scaling happens in a copy."""
    mine = np.array([[3.0, 4.0]], dtype=np.float32)
    checked(mine, 1, 2)
    np.testing.assert_array_equal(mine, [[3.0, 4.0]])


@pytest.mark.parametrize(
    ("vectors", "dim", "shape"), [([], 5, (0, 5)), ([], None, (0, 0)), (np.zeros((0, 3)), 3, (0, 3))]
)
def test_checked_accepts_nothing_for_no_texts(
    vectors: ArrayLike, dim: int | None, shape: tuple[int, int]
) -> None:
    """No texts, no rows, whatever the empty shape was."""
    assert checked(vectors, 0, dim).shape == shape


@pytest.mark.parametrize(
    ("vectors", "fault"),
    [
        ([1.0, 2.0], "shape"),
        ([[1.0, 2.0]], "shape"),
        ([[1.0], [2.0], [3.0]], "shape"),
        (np.zeros((2, 0)), "shape"),
        ([[1.0], [1.0, 2.0]], "no array of numbers"),
        ([["a", "b"], ["c", "d"]], "dtype"),
        ([[True, False], [True, True]], "dtype"),
        ([[1j, 1.0], [1.0, 1.0]], "dtype"),
        ([[None, 1.0], [1.0, 1.0]], "dtype"),
        ([[1.0, 2.0], [0.0, 0.0]], "zero vector for text 1"),
        ([[1.0, float("nan")], [1.0, 2.0]], "NaN or infinity for text 0"),
        ([[1.0, 2.0], [1.0, float("-inf")]], "NaN or infinity for text 1"),
        ([[1.0, 2.0], [1.0, 1e300]], "NaN or infinity for text 1"),
    ],
)
def test_checked_refuses_what_is_no_vector(vectors: ArrayLike, fault: str) -> None:
    """Each fault is named, with the text it happened for."""
    with pytest.raises(BadVector, match=fault):
        checked(vectors, 2, 2 if fault == "shape" else None)


# FunctionEmbedder ----------------------------------------------------------------------------------


class FrameworkEmbeddings:
    """Has the method that LangChain's embeddings have."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return two features for each text."""
        return [[len(text) + 1.0, text.count("a") + 1.0] for text in texts]


def test_function_embedder_wraps_a_bound_method() -> None:
    """A framework's method is all that is needed; rows come out normalised and in order."""
    embedder: Embedder = FunctionEmbedder(FrameworkEmbeddings().embed_documents, fingerprint="lengths:1")
    assert embedder.fingerprint == "lengths:1"
    assert embedder.embed([]).shape == (0, 0)
    np.testing.assert_allclose(embedder.embed(["aaa", ""]), [[0.5**0.5, 0.5**0.5]] * 2, rtol=1e-6)
    assert embedder.embed(()).shape == (0, 2)


def test_function_embedder_hands_over_clean_text() -> None:
    """The function gets a list, without lone surrogates."""
    seen: list[list[str]] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        assert isinstance(texts, list)
        seen.append(texts)
        return np.ones((len(texts), 3))

    FunctionEmbedder(embed, fingerprint="f").embed(("a\udcffb",))
    assert seen == [["a?b"]]


def test_function_embedder_refuses_a_changed_width() -> None:
    """A function that changes its mind about D is caught, as is a blank fingerprint."""
    embedder = FunctionEmbedder(lambda texts: np.ones((len(texts), len(texts))), fingerprint="f")
    embedder.embed(["a"])
    with pytest.raises(BadVector, match=r"expected \(2, 1\)"):
        embedder.embed(["a", "b"])
    with pytest.raises(BadName, match="fingerprint"):
        FunctionEmbedder(lambda texts: np.ones((len(texts), 1)), fingerprint=" ")


# SentenceEmbedder: one vector by every road --------------------------------------------------------


@pytest.fixture(params=["onnxruntime", "torch"])
def embedder(request: pytest.FixtureRequest) -> SentenceEmbedder:
    """Return the tiny model in either runtime."""
    return SentenceEmbedder(TINY, batch_size=3, device="cpu" if request.param == "torch" else None)


def test_rows_are_unit_float32_for_any_text(embedder: SentenceEmbedder) -> None:
    """Blank, foreign and control characters have unit vectors."""
    rows = embedder.embed(TEXTS)
    assert rows.shape == (len(TEXTS), DIM)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert isinstance(embedder, Embedder)


def test_no_texts_give_no_rows(embedder: SentenceEmbedder) -> None:
    """The empty answer has the model's width."""
    assert embedder.embed([]).shape == (0, DIM)


def test_vectors_do_not_depend_on_batch_or_order(embedder: SentenceEmbedder) -> None:
    """Sorting by length and padding are invisible; more texts than one window too."""
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(embedder.embed(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1])[::-1], alone, atol=1e-5)
    np.testing.assert_allclose(embedder.embed(TEXTS * 40), np.tile(alone, (40, 1)), atol=1e-5)


def test_both_runtimes_agree() -> None:
    """ONNX and torch give the same vectors under the same fingerprint."""
    onnx, torch = SentenceEmbedder(TINY), SentenceEmbedder(TINY, device="cpu")
    np.testing.assert_allclose(onnx.embed(TEXTS), torch.embed(TEXTS), atol=1e-5)
    assert onnx.fingerprint == torch.fingerprint


def test_long_text_is_cut_at_max_length(embedder: SentenceEmbedder) -> None:
    """Only the first tokens count, and a huge text costs no more than they do."""
    letters = " ".join("abcdefghijklmnopqrstuvwxyz")
    exact, longer, shorter = embedder.embed([letters[: 2 * (MAX_LENGTH - 2)], letters, letters[:20]])
    np.testing.assert_allclose(exact, longer, atol=1e-5)
    assert exact @ shorter < 0.999
    np.testing.assert_allclose(embedder.embed([letters * 40_000])[0], longer, atol=1e-5)


def test_max_length_is_the_callers() -> None:
    """A shorter limit cuts earlier and is part of the fingerprint."""
    short, own = SentenceEmbedder(TINY, max_length=5), SentenceEmbedder(TINY)
    np.testing.assert_allclose(short.embed(["a b c d e f"]), own.embed(["a b c"]), atol=1e-5)
    assert own.fingerprint == short.fingerprint.replace("max5", f"max{MAX_LENGTH}")


def test_lone_surrogates_are_read_as_question_marks(embedder: SentenceEmbedder) -> None:
    """Text that is not valid Unicode is embedded, not refused."""
    one, two = embedder.embed(["what\ud83d now", "what? now"])
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_threads_share_one_embedder(embedder: SentenceEmbedder) -> None:
    """Four threads, that also race for the loading, all get the right rows."""
    start = threading.Barrier(4)

    def work(shift: int) -> NDArray[np.float32]:
        start.wait(timeout=60)
        texts = TEXTS[shift:] + TEXTS[:shift]
        rows = [np.roll(embedder.embed(texts), shift, axis=0) for _ in range(10)]
        assert all(np.array_equal(rows[0], row) for row in rows)
        return rows[0]

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(work, range(4))
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)


def test_a_folder_may_say_that_text_is_lower_cased(folder: Path) -> None:
    """`do_lower_case` of the model's own settings is obeyed."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = None
    write(folder, "tokenizer.json", tokenizer)
    upper, lower = SentenceEmbedder(folder).embed(["ABC D", "abc d"])
    assert upper @ lower < 0.999
    write(folder, "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": True})
    upper, lower = SentenceEmbedder(folder).embed(["ABC D", "abc d"])
    np.testing.assert_array_equal(upper, lower)


def test_a_plain_hugging_face_folder_will_do(torch_folder: Path) -> None:
    """Without any file of sentence-transformers, mean pooling and the model's own length are taken."""
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (torch_folder / name).unlink()
    plain = SentenceEmbedder(str(torch_folder))
    assert plain.fingerprint.endswith(":max32")
    np.testing.assert_allclose(
        plain.embed(TEXTS), SentenceEmbedder(TINY, max_length=32).embed(TEXTS), atol=1e-5
    )


# SentenceEmbedder: fingerprint ---------------------------------------------------------------------


def test_fingerprint_names_all_that_decides_a_vector() -> None:
    """It can be read, and is the same each time."""
    fingerprint = SentenceEmbedder(TINY).fingerprint
    kind, digest, *rest = fingerprint.split(":")
    assert (kind, rest) == ("bert", ["mean", "l2", "float32", f"d{DIM}", f"max{MAX_LENGTH}"])
    assert len(digest) == 12
    assert SentenceEmbedder(TINY).fingerprint == fingerprint


def test_fingerprint_follows_the_weights_not_the_folder(folder: Path) -> None:
    """A copy agrees, with or without its ONNX file; one changed byte does not."""
    fingerprint = SentenceEmbedder(TINY).fingerprint
    assert SentenceEmbedder(folder).fingerprint == fingerprint
    (folder / "onnx" / "model.onnx").unlink()
    assert SentenceEmbedder(folder).fingerprint == fingerprint
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert SentenceEmbedder(folder).fingerprint != fingerprint


def test_a_folder_with_onnx_alone_has_a_fingerprint_too(folder: Path) -> None:
    """Without safetensors the graph is what is hashed and run."""
    (folder / "model.safetensors").unlink()
    embedder = SentenceEmbedder(folder)
    assert embedder.fingerprint != SentenceEmbedder(TINY).fingerprint
    np.testing.assert_array_equal(embedder.embed(TEXTS), SentenceEmbedder(TINY).embed(TEXTS))


# SentenceEmbedder: laziness and errors -------------------------------------------------------------


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


def test_onnx_needs_no_torch() -> None:
    """Importing and constructing load nothing, the fingerprint no runtime, and ONNX runs without torch."""
    code = f"""
import sys
from memos_engine.models.embed import SentenceEmbedder
heavy = ("torch", "transformers", "onnxruntime", "tokenizers", "huggingface_hub")
loaded = lambda: ",".join(name for name in heavy if name in sys.modules)
embedder = SentenceEmbedder({str(TINY)!r})
print(embedder.fingerprint[:4], loaded(), end=" ")
sys.modules["torch"] = sys.modules["transformers"] = None
print(embedder.embed(["a"]).shape)
"""
    assert run_python(code) == f"bert  (1, {DIM})"


@pytest.mark.parametrize("missing", ["torch", "transformers", "tokenizers"])
def test_a_missing_runtime_says_what_to_install(missing: str, torch_folder: Path) -> None:
    """Without torch and friends the error holds the pip command."""
    code = f"""
import sys
sys.modules[{missing!r}] = None
from memos_engine.errors import EmbedderUnavailable
from memos_engine.models.embed import SentenceEmbedder
try:
    SentenceEmbedder({str(torch_folder)!r}).embed(["a"])
except EmbedderUnavailable as error:
    print(error)
"""
    assert "pip install 'memos-adapters[embed]'" in run_python(code)


def test_without_onnxruntime_torch_runs_the_folder() -> None:
    """A folder with both formats does not depend on onnxruntime."""
    code = f"""
import sys
sys.modules["onnxruntime"] = None
from memos_engine.models.embed import SentenceEmbedder
print(SentenceEmbedder({str(TINY)!r}).embed(["a"]).shape, "torch" in sys.modules)
"""
    assert run_python(code) == f"(1, {DIM}) True"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cut the network off, and show the hub's client an empty cache."""

    def refuse(*args: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("no_network")
def test_a_name_without_network_says_what_to_download() -> None:
    """The command, the folder form and the reason all stand in the message."""
    embedder = SentenceEmbedder("someone/some-model")
    with pytest.raises(EmbedderUnavailable) as caught:
        embedder.embed(["a"])
    message = str(caught.value)
    assert "'someone/some-model' is not available" in message
    assert "`hf download someone/some-model --local-dir some-model`" in message
    assert "SentenceEmbedder('/path/to/some-model')" in message
    assert caught.value.__cause__ is not None


@pytest.mark.usefixtures("no_network")
def test_a_name_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    """A model that any Hugging Face library fetched before is found under its name."""
    repository = tmp_path / "cache" / "models--someone--tiny"
    shutil.copytree(TINY, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc", encoding="utf-8")
    embedder = SentenceEmbedder("someone/tiny")
    assert embedder.fingerprint == SentenceEmbedder(TINY).fingerprint
    assert embedder.embed(["a"]).shape == (1, DIM)


@pytest.mark.parametrize("model", [Path("no/folder"), "/no/such/folder", "./no", "a/b/c", ""])
def test_a_missing_folder_is_told_without_asking_the_hub(
    model: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a path is never taken for a name."""
    monkeypatch.chdir(TINY / "onnx")  # "" is the working folder, which has no weights here
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EmbedderUnavailable, match=r"no such folder|neither model\.safetensors"):
        SentenceEmbedder(model).embed(["a"])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"\x00broken"])
def test_a_damaged_folder_is_named(name: str, content: bytes | None, torch_folder: Path) -> None:
    """A missing or malformed file is an EmbedderUnavailable that names the folder and keeps the cause."""
    if content is None:
        (torch_folder / name).unlink()
    else:
        (torch_folder / name).write_bytes(content)
    with pytest.raises(EmbedderUnavailable) as caught:
        SentenceEmbedder(torch_folder).embed(["a"])
    assert str(torch_folder) in str(caught.value)


def test_a_damaged_graph_is_named(folder: Path) -> None:
    """A broken ONNX file is told, not passed over."""
    (folder / "onnx" / "model.onnx").write_bytes(b"broken")
    with pytest.raises(EmbedderUnavailable, match="cannot be loaded"):
        SentenceEmbedder(folder).embed(["a"])


def test_pickled_weights_are_never_read(torch_folder: Path) -> None:
    """A folder with pytorch_model.bin alone has no weights."""
    (torch_folder / "model.safetensors").rename(torch_folder / "pytorch_model.bin")
    with pytest.raises(EmbedderUnavailable, match=r"neither model\.safetensors nor"):
        SentenceEmbedder(torch_folder).embed(["a"])


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "cls"},
        {"pooling_mode": ["mean", "max"]},
    ],
)
def test_another_pooling_is_refused_with_the_way_out(pooling: dict[str, object], folder: Path) -> None:
    """Wrong vectors would be worse than none; the message shows FunctionEmbedder."""
    write(folder, "1_Pooling/config.json", pooling)
    with pytest.raises(EmbedderUnavailable, match=r"FunctionEmbedder\(SentenceTransformer"):
        SentenceEmbedder(folder).embed(["a"])


def test_a_dense_layer_is_refused(folder: Path) -> None:
    """A model with more modules than a mean needs its own library."""
    write(
        folder,
        "modules.json",
        [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}],
    )
    with pytest.raises(EmbedderUnavailable, match="Dense"):
        _ = SentenceEmbedder(folder).fingerprint


@pytest.mark.parametrize("pooling", [{"pooling_mode": "mean"}, {"pooling_mode": ["mean"]}, {}])
def test_mean_pooling_is_known_in_every_spelling(pooling: dict[str, object], folder: Path) -> None:
    """New and old versions of sentence-transformers write it differently."""
    write(folder, "1_Pooling/config.json", pooling)
    assert SentenceEmbedder(folder).embed(["a"]).shape == (1, DIM)


def test_limits_are_checked() -> None:
    """Absurd ones at once, what the model cannot read on first use."""
    with pytest.raises(BadLimit, match="batch_size=0"):
        SentenceEmbedder(TINY, batch_size=0)
    with pytest.raises(BadLimit, match="max_length=2"):
        SentenceEmbedder(TINY, max_length=2)
    with pytest.raises(BadLimit, match="33 is more than the 32 tokens"):
        SentenceEmbedder(TINY, max_length=33).embed(["a"])


# all-MiniLM-L6-v2 ----------------------------------------------------------------------------------


def reference(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed one text at a time, in the plainest way that the model's card tells."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)
    model = transformers.AutoModel.from_pretrained(minilm_folder(), local_files_only=True).float().eval()
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state[0].mean(dim=0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def test_minilm_agrees_with_the_plain_forward_pass() -> None:
    """Batching, sorting and truncating at 256 tokens change nothing."""
    texts = [*TEXTS, "The children painted a sunrise by the lake. " * 60]
    rows = SentenceEmbedder(minilm_folder()).embed(texts)
    np.testing.assert_allclose(rows, reference(texts), atol=1e-5)


def test_minilm_finds_paraphrases_nearer_than_strangers() -> None:
    """The vectors mean something; the fingerprint is that of the published weights."""
    embedder = SentenceEmbedder(minilm_folder())
    cat, kitten, bank = embedder.embed(
        ["A cat sleeps on the sofa.", "The kitten naps on a couch.", "The bank raised its interest rates."]
    )
    assert cat @ kitten > 0.5
    assert cat @ bank < 0.3
    assert embedder.fingerprint == "bert:53aa51172d14:mean:l2:float32:d384:max256"
