"""Rerankers: one query against many texts, by a local cross-encoder or by any function.

`CrossEncoderReranker` runs a Hugging Face sequence classifier with one label from its files, by torch.
`FunctionReranker` wraps what somebody has already. Every answer passes `checked_scores`. Nothing here
knows items, a store or HTTP; tokenizers, torch and transformers are imported on first use only.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memos_engine.errors import BadInput, BadLimit, BadName, ModelFailed, ModelUnavailable
from memos_engine.models.hub import Hub, no_progress_bar

__all__ = ["CrossEncoderReranker", "FunctionReranker", "checked_scores"]

_Ids: TypeAlias = NDArray[np.int64]
_Pair: TypeAlias = tuple[list[int], list[int]]
"""Token ids of a query and a text together, and which of the two each token is of (0 or 1)."""
_Tokenize: TypeAlias = Callable[[str, list[str]], list[_Pair]]
_Forward: TypeAlias = Callable[[_Ids, _Ids, _Ids], ArrayLike]
"""Token ids, kinds and mask, all (B, L), to logits (B,)."""

_DEFAULT = "cross-encoder/ms-marco-MiniLM-L6-v2"
_WINDOW_BATCHES = 64
"""Texts are tokenised and sorted this many batches at a time, so that memory stays bounded."""
_CHARS_PER_TOKEN_MAX = 256
"""Text further out is cut before it is tokenised."""
_LENGTH_MIN = 8
"""The special tokens of a pair are up to four, and each side needs a few of its own."""
_OFFSET_KINDS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})
"""Models that count positions from behind the padding's id: so many fewer tokens fit."""
_INSTALL = (
    "The reranker's runtime is not installed ({exc}). Type: pip install 'memos-adapters[embed]'; or pass "
    "any other reranker, such as FunctionReranker(function, fingerprint='...')."
)


def checked_scores(scores: ArrayLike, count: int) -> NDArray[np.float32]:
    """Return a reranker's answer as scores of shape (count,), float32.

    Raises:
        ModelFailed: The shape or dtype is wrong, or a score is not finite in float32.
    """
    try:
        raw = np.asarray(scores)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ModelFailed(f"The reranker returned no array of numbers: {exc}. Return (N,) floats.") from exc
    if count == 0 and raw.size == 0:
        return np.zeros(0, dtype=np.float32)
    if raw.shape != (count,):
        raise ModelFailed(
            f"The reranker returned shape {raw.shape!r} for {count} texts, expected ({count},). Return one "
            "number per text, in the order of the texts."
        )
    if raw.dtype.kind not in "fiu":
        raise ModelFailed(f"The reranker returned dtype {raw.dtype.name!r}. Return real numbers.")
    with np.errstate(over="ignore"):  # what does not fit becomes inf and is refused below
        checked = np.ascontiguousarray(raw, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(checked))
    if bad.size:
        raise ModelFailed(
            f"The reranker returned {raw[bad[0]]!s} for text {int(bad[0])} of {count}. Texts are ordered "
            "by finite numbers: see what the reranker does with that text."
        )
    return checked


class FunctionReranker:
    """A reranker out of any function from a query and texts to scores.

    It is as thread-safe and as deterministic as the function.

    Args:
        function: Takes a query and a list of texts, returns one number for each; higher is better.
        fingerprint: A name that changes whenever the scores would: say the model and its revision.

    Raises:
        BadName: The fingerprint is blank.
    """

    def __init__(self, function: Callable[[str, list[str]], ArrayLike], *, fingerprint: str) -> None:
        if not callable(function):
            raise BadInput(f"function is {function!r}: hand over a function of a query and texts.")
        if not fingerprint.strip():
            raise BadName(f"{fingerprint!r} is no fingerprint: name the model and its revision.")
        self._function = function
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        """The name given on construction."""
        return self._fingerprint

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one score per text, shape (len(texts),), float32; no texts are no call of the function.

        Raises:
            ModelFailed: The function returned something else.
        """
        if not texts:
            return np.zeros(0, dtype=np.float32)
        return checked_scores(
            self._function(_encodable(query), [_encodable(text) for text in texts]), len(texts)
        )


class CrossEncoderReranker:
    """A cross-encoder with one label, run from its files by torch in float32.

    It reads query and text together, as the published rerankers of sentence-transformers and BAAI do.
    Scores are raw logits: their order is that of the model's own probabilities, and they do not
    saturate at 0 and 1. Nothing is loaded on construction. Given a folder it never touches the network;
    given a name it looks into the Hugging Face cache, then asks the hub. Only safetensors are read,
    never pickles, and no code of a model's folder is run. A pair has the same score in any batch and
    order up to about 1e-6 of its size, which is what padding does to float32 sums.

    Loading is guarded by a lock; `scores` itself takes none.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        batch_size: Pairs per forward pass.
        device: A torch device such as `cuda`. None means the CPU.
        max_length: Tokens of query and text together, special ones included; of a pair that is longer,
            the longer side is cut. None means the model's own.

    Raises:
        BadLimit: `batch_size` or `max_length` is too small; or, on first use, `max_length` is more
            than the model can read.
    """

    def __init__(
        self,
        model: str | Path = _DEFAULT,
        *,
        batch_size: int = 32,
        device: str | None = None,
        max_length: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise BadLimit(f"batch_size={batch_size!r} must be at least 1.")
        if max_length is not None and max_length < _LENGTH_MIN:
            raise BadLimit(f"max_length={max_length!r} leaves no room for a pair: at least {_LENGTH_MIN}.")
        self._model = model
        self._batch_size = batch_size
        self._device = device
        self._max_length = max_length
        self._lock = threading.Lock()
        self._card: _Card | None = None
        self._runner: tuple[_Tokenize, _Forward] | None = None

    @property
    def fingerprint(self) -> str:
        """Architecture, SHA-256 of the weights (first 12 digits), scale, dtype, length.

        Made from content alone: the same weights agree in every folder. Reads the weights once.

        Raises:
            ModelUnavailable: The weights cannot be had; the message says what to type.
        """
        return self._described().fingerprint

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one logit per text, in order: shape (len(texts),), float32. Thread-safe.

        Lone surrogates are read as `?`. No texts load nothing.

        Raises:
            ModelUnavailable: Weights or runtime cannot be had; the message says what to type.
            ModelFailed: The weights are broken and yield NaN.
        """
        out = np.zeros(len(texts), dtype=np.float32)
        if not texts:
            return out
        card = self._described()
        tokenize, forward = self._loaded(card)
        chars_max = card.max_length * _CHARS_PER_TOKEN_MAX
        asked = _encodable(query[:chars_max])
        window = self._batch_size * _WINDOW_BATCHES
        for start in range(0, len(texts), window):
            pairs = tokenize(asked, [_encodable(text[:chars_max]) for text in texts[start : start + window]])
            order = np.argsort([-len(ids) for ids, _ in pairs], kind="stable")  # texts of like length meet
            for rows in np.split(order, range(self._batch_size, len(order), self._batch_size)):
                logits = forward(*_padded([pairs[row] for row in rows], card.pad_id))
                out[start + rows] = checked_scores(logits, len(rows))
        return out

    def _described(self) -> _Card:
        with self._lock:
            if self._card is None:
                self._card = _described(self._model, self._max_length)
            return self._card

    def _loaded(self, card: _Card) -> tuple[_Tokenize, _Forward]:
        with self._lock:
            if self._runner is None:
                try:
                    self._runner = _tokenizer(card), _torch_forward(card.folder, self._device or "cpu")
                except ModelUnavailable:
                    raise
                except ImportError as exc:
                    raise ModelUnavailable(_INSTALL.format(exc=exc)) from exc
                except Exception as exc:  # three libraries without a common base; translated, not swallowed
                    raise _HUB.unavailable(card.folder, f"it cannot be loaded ({exc})") from exc
            return self._runner


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _padded(pairs: list[_Pair], pad_id: int) -> tuple[_Ids, _Ids, _Ids]:
    """Return ids, kinds and mask of a batch, each (B, L), filled up on the right."""
    lengths = np.array([len(ids) for ids, _ in pairs])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    kinds = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row, _ in pairs])
    kinds[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for _, row in pairs])
    return ids, kinds, mask.astype(np.int64)


def _tokenizer(card: _Card) -> _Tokenize:
    from tokenizers import Tokenizer  # noqa: PLC0415 -- loaded on first use only

    tokenizer = Tokenizer.from_file(str(card.folder / "tokenizer.json"))
    tokenizer.enable_truncation(card.max_length)  # of a pair, the longer side gives way
    tokenizer.no_padding()

    def tokenize(query: str, texts: list[str]) -> list[_Pair]:
        encodings = tokenizer.encode_batch([(query, text) for text in texts])
        return [(encoding.ids, encoding.type_ids) for encoding in encodings]

    return tokenize


def _torch_forward(folder: Path, device: str) -> _Forward:
    import torch  # noqa: PLC0415 -- seconds and hundreds of megabytes: on first use only
    import transformers  # noqa: PLC0415 -- as torch

    with no_progress_bar(transformers.utils.logging):
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):  # they would be random numbers
        raise _HUB.unavailable(
            folder, f"its weights lack {', '.join(missing[:3])}: it was trained for other work"
        )
    model = model.to(device=device, dtype=torch.float32).eval()
    told_apart = (getattr(model.config, "type_vocab_size", 0) or 0) > 1
    told_apart = told_apart and "token_type_ids" in inspect.signature(model.forward).parameters

    def forward(ids: _Ids, kinds: _Ids, mask: _Ids) -> ArrayLike:
        feed = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": kinds} if told_apart else {})
        with torch.inference_mode():
            output = model(**{name: torch.from_numpy(value).to(device) for name, value in feed.items()})
            return np.asarray(output.logits.reshape(len(ids), -1)[:, 0].cpu().numpy())

    return forward


@dataclass(frozen=True, slots=True)
class _Card:
    """What a cross-encoder's folder says about itself."""

    folder: Path
    max_length: int
    """Tokens read of a pair, special ones included."""
    pad_id: int
    fingerprint: str


def _described(model: str | Path, max_length: int | None) -> _Card:
    """Find the model's folder, fetching it where need be, and read what it says. Hashes the weights."""
    folder = _HUB.located(model)
    config = _HUB.json(folder, "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise _HUB.unavailable(folder, "its config.json is missing or names no model_type")
    labels = len(config.get("id2label") or range(config.get("num_labels") or 2))
    made_for = str((config.get("architectures") or [f"{kind}ForSequenceClassification"])[0])
    if labels != 1 or not made_for.endswith("ForSequenceClassification"):
        raise _HUB.unavailable(folder, f"it is {made_for} with {labels} labels, not a classifier with one")
    pad_id = config.get("pad_token_id") or 0
    positions = config.get("max_position_embeddings") or 512
    positions -= pad_id + 1 if kind in _OFFSET_KINDS else 0
    own = _HUB.json(folder, "tokenizer_config.json").get("model_max_length") or positions
    length = max_length or int(min(own, positions))
    if length > positions:
        raise BadLimit(f"max_length={length!r} is more than the {positions} tokens this model can read.")
    digest = _HUB.sha256(folder, sorted(folder.glob("model*.safetensors")))
    return _Card(folder, length, pad_id, f"{kind}:{digest[:12]}:pair:logit:float32:max{length}")


def _lacking(folder: Path) -> str:
    """The first file that a reranker's folder lacks; empty when all are there."""
    needed = ("config.json", "tokenizer.json", "model*.safetensors")
    return next((f"no {name}" for name in needed if not any(folder.glob(name))), "")


_HUB = Hub(
    ModelUnavailable,
    "reranker",
    "CrossEncoderReranker('{}')",
    _DEFAULT,
    ("*.json", "model*.safetensors"),
    _lacking,
)
