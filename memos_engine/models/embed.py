"""Embedders: texts to unit vectors, by a local sentence model or by any function.

`SentenceEmbedder` runs a mean-pooled sentence-transformers model from its files: by onnxruntime where
the folder holds `onnx/model.onnx`, else by torch (docs/adr/0003-embedder-runtime.md). `FunctionEmbedder`
wraps what a framework already has. Every vector passes `checked`. Nothing here knows items or a store;
onnxruntime, tokenizers, torch and transformers are imported on first use only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memos_engine.errors import BadLimit, BadName, BadVector, EmbedderUnavailable
from memos_engine.models.card import ONNX, Card, described, unavailable
from memos_engine.models.hub import no_progress_bar
from memos_engine.ports import Vectors

__all__ = ["CHECKED", "FunctionEmbedder", "SentenceEmbedder", "checked"]

_Forward: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Token ids and mask, both (B, L), to hidden states (B, L, D)."""

_Tokenize: TypeAlias = Callable[[list[str]], list[list[int]]]

_WINDOW_BATCHES = 64
"""Texts are tokenised and sorted this many batches at a time, so that memory stays bounded."""
_CHARS_PER_TOKEN_MAX = 256
"""Text further out is cut before it is tokenised: 10 MB would take 9 s to yield the first 256 tokens."""
_UNIT_TOLERANCE = 1e-5
_INSTALL = (
    "The embedder's runtime is not installed ({exc}). Type: pip install 'memos-adapters[embed]'; or pass "
    "any other embedder, such as FunctionEmbedder(function, fingerprint='...')."
)


def checked(vectors: ArrayLike, count: int, dim: int | None) -> Vectors:
    """Return an embedder's answer as rows of unit length, shape (count, D), float32.

    A row whose length is 1 within 1e-5 keeps its bits; any other is scaled.

    Args:
        count: How many texts were embedded.
        dim: D. None means any D of at least 1.

    Raises:
        BadVector: The shape or dtype is wrong, or a row is zero or not finite.
    """
    try:
        raw = np.asarray(vectors)
    except (TypeError, ValueError) as exc:
        raise BadVector(f"The embedder returned no array of numbers: {exc}. Return (N, D) floats.") from exc
    if count == 0 and raw.size == 0:
        return np.zeros((0, dim or (raw.shape[1] if raw.ndim == 2 else 0)), dtype=np.float32)
    if raw.ndim != 2 or raw.shape[0] != count or raw.shape[1] != (dim or max(raw.shape[1], 1)):
        raise BadVector(
            f"The embedder returned shape {raw.shape!r} for {count} texts, expected "
            f"({count}, {dim or 'D'}). Return one row per text, always of the same width."
        )
    if raw.dtype.kind not in "fiu":
        raise BadVector(f"The embedder returned dtype {raw.dtype.name!r}. Return real numbers, best float32.")
    with np.errstate(over="ignore"):  # what does not fit becomes inf and is refused below
        rows = np.ascontiguousarray(raw, dtype=np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    if (np.abs(norms - 1) <= _UNIT_TOLERANCE).all():
        return rows
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if bad.size:
        fault = "a zero vector" if norms[bad[0]] == 0 else "NaN or infinity"
        raise BadVector(
            f"The embedder returned {fault} for text {int(bad[0])} of {count}. A cosine needs finite "
            "vectors that are not zero: see what the embedder does with that text."
        )
    off = np.abs(norms - 1) > _UNIT_TOLERANCE
    if off.any():
        rows = rows.copy()
        rows[off] /= norms[off, None]
    return rows


class FunctionEmbedder:
    """An embedder out of any function from texts to vectors.

    Made for bound methods: LangChain's `embed_documents`, LlamaIndex's `get_text_embedding_batch`,
    sentence-transformers' `encode`. It is as thread-safe and as deterministic as the function.

    Args:
        function: Takes a list of texts, returns one vector for each; they need not be of unit length.
        fingerprint: A name that changes whenever the vectors would: say the model and its revision.

    Raises:
        BadName: The fingerprint is blank.
    """

    def __init__(self, function: Callable[[list[str]], ArrayLike], *, fingerprint: str) -> None:
        if not fingerprint.strip():
            raise BadName(f"{fingerprint!r} is no fingerprint: name the model and its revision.")
        self._function = function
        self._fingerprint = fingerprint
        self._dim: int | None = None

    @property
    def fingerprint(self) -> str:
        """The name given on construction."""
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows, shape (len(texts), D), float32; D is 0 before the first text.

        Raises:
            BadVector: The function returned something else, or another D than before.
        """
        if not texts:
            return np.zeros((0, self._dim or 0), dtype=np.float32)
        rows = checked(self._function([_encodable(text) for text in texts]), len(texts), self._dim)
        self._dim = rows.shape[1]
        return rows


class SentenceEmbedder:
    """A sentence-transformers model with mean pooling, run from its files in float32.

    Nothing is loaded on construction. Given a folder it never touches the network; given a name it
    looks into the Hugging Face cache, then asks the hub. Only safetensors and ONNX are read, never
    pickles. Prompts such as E5's `query: ` are not added. One text has the same vector in any batch
    and order up to about 1e-6, which is what padding does to float32 sums.

    Loading is guarded by a lock; `embed` itself takes none: the tokenizer, onnxruntime's session and a
    torch module in inference mode only read their state.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        batch_size: Texts per forward pass.
        device: A torch device such as `cuda`; it always runs by torch. None means the CPU, by
            onnxruntime where the folder has `onnx/model.onnx`.
        max_length: Tokens of a text that are read, special ones included. None means the model's own.

    Raises:
        BadLimit: `batch_size` or `max_length` is too small; or, on first use, `max_length` is more
            than the model can read.
    """

    def __init__(
        self,
        model: str | Path = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        batch_size: int = 32,
        device: str | None = None,
        max_length: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise BadLimit(f"batch_size={batch_size!r} must be at least 1.")
        if max_length is not None and max_length < 3:
            raise BadLimit(f"max_length={max_length!r} leaves no room beside the special tokens: at least 3.")
        self._model = model
        self._batch_size = batch_size
        self._device = device
        self._max_length = max_length
        self._lock = threading.Lock()
        self._card: Card | None = None
        self._runner: tuple[_Tokenize, _Forward] | None = None

    @property
    def fingerprint(self) -> str:
        """Architecture, SHA-256 of the weights (first 12 digits), pooling, dtype, width, length.

        Made from content alone: the same weights agree in every folder, and by every runtime where
        the folder holds `model.safetensors`. Reads the weights once (0.05 s for 90 MB).

        Raises:
            EmbedderUnavailable: The weights cannot be had; the message says what to type.
        """
        return self._described().fingerprint

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows in the order of the texts: shape (len(texts), D), float32. Thread-safe.

        A text longer than `max_length` tokens is cut; lone surrogates are read as `?`.

        Raises:
            EmbedderUnavailable: Weights or runtime cannot be had; the message says what to type.
            BadVector: The weights are broken and yield NaN.
        """
        card = self._described()
        out = np.empty((len(texts), card.dim), dtype=np.float32)
        if not texts:
            return out
        tokenize, forward = self._loaded(card)
        window = self._batch_size * _WINDOW_BATCHES
        chars_max = card.max_length * _CHARS_PER_TOKEN_MAX
        for start in range(0, len(texts), window):
            ids = tokenize([_encodable(text[:chars_max]) for text in texts[start : start + window]])
            for rows in _by_length(ids, self._batch_size):
                out[start + rows] = _mean_pooled([ids[row] for row in rows], card.pad_id, forward)
        return checked(out, len(texts), card.dim)

    def _described(self) -> Card:
        with self._lock:
            if self._card is None:
                self._card = described(self._model, self._max_length)
            return self._card

    def _loaded(self, card: Card) -> tuple[_Tokenize, _Forward]:
        with self._lock:
            if self._runner is None:
                try:
                    self._runner = _tokenizer(card), _forward(card.folder, self._device)
                except ImportError as exc:
                    raise EmbedderUnavailable(_INSTALL.format(exc=exc)) from exc
                except Exception as exc:  # four libraries without a common base; translated, not swallowed
                    raise unavailable(card.folder, f"it cannot be loaded ({exc})") from exc
            return self._runner


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _by_length(ids: list[list[int]], batch_size: int) -> Iterator[NDArray[np.intp]]:
    """Yield row numbers in batches of texts of like length, the longest first."""
    order = np.argsort([-len(row) for row in ids], kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _mean_pooled(ids: list[list[int]], pad_id: int, forward: _Forward) -> NDArray[np.float32]:
    """Return the mean hidden state of each row's own tokens, scaled to unit length: (B, D)."""
    lengths = np.array([len(row) for row in ids])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    padded = np.full(mask.shape, pad_id, dtype=np.int64)
    padded[mask == 1] = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    # the sum has the direction of the mean, and only the direction is kept
    sums: NDArray[np.float32] = (mask[:, None, :].astype(np.float32) @ forward(padded, mask))[:, 0, :]
    unit: NDArray[np.float32] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return unit


def _tokenizer(card: Card) -> _Tokenize:
    from tokenizers import Tokenizer  # noqa: PLC0415 -- loaded on first use only

    tokenizer = Tokenizer.from_file(str(card.folder / "tokenizer.json"))
    tokenizer.enable_truncation(card.max_length)
    tokenizer.no_padding()

    def tokenize(texts: list[str]) -> list[list[int]]:
        encodings = tokenizer.encode_batch([text.lower() for text in texts] if card.lowercase else texts)
        return [encoding.ids or [card.pad_id] for encoding in encodings]

    return tokenize


def _forward(folder: Path, device: str | None) -> _Forward:
    """Return onnxruntime's forward pass where it can be had and no device is asked for, else torch's."""
    if device is None and (folder / ONNX).is_file():
        try:
            return _onnx_forward(folder / ONNX)
        except ModuleNotFoundError:
            pass  # torch may be there
    return _torch_forward(folder, device or "cpu")


def _onnx_forward(path: Path) -> _Forward:
    import onnxruntime  # noqa: PLC0415 -- loaded on first use only

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _cpus()  # left alone, it pins threads to cores a container may not have
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {value.name for value in session.get_inputs()}
    hidden = {value.name for value in session.get_outputs()} & {"last_hidden_state", "token_embeddings"}
    if not hidden:
        raise ValueError(f"{path.name} has no output last_hidden_state: delete it, torch runs the rest")

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output = session.run([min(hidden)], {name: feed[name] for name in inputs})[0]
        return np.asarray(output, dtype=np.float32)

    return forward


def _torch_forward(folder: Path, device: str) -> _Forward:
    import torch  # noqa: PLC0415 -- seconds and hundreds of megabytes: on first use only
    import transformers  # noqa: PLC0415 -- as torch

    with no_progress_bar(transformers.utils.logging):
        model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    model = model.to(device=device, dtype=torch.float32).eval()

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            output = model(
                input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device)
            )
            return np.asarray(output.last_hidden_state.cpu().numpy(), dtype=np.float32)

    return forward


def _cpus() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


CHECKED = (FunctionEmbedder, SentenceEmbedder)
"""Embedders whose answers went through `checked` before they are returned."""
