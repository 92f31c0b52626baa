"""Where a sentence model's folder is, and what it says about itself; no weight is loaded here.

A folder is read as it stands; a name is looked up in the Hugging Face cache, then on the hub. What
comes out is a `Card`, which `embed.py` runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memos_engine.errors import BadLimit, EmbedderUnavailable
from memos_engine.models.hub import Hub

__all__ = ["ONNX", "Card", "described", "unavailable"]

ONNX = Path("onnx", "model.onnx")
"""Where sentence-transformers publishes the graph, within a model's folder."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a model's folder says about itself."""

    folder: Path
    dim: int
    max_length: int
    """Tokens read of a text, special ones included."""
    pad_id: int
    lowercase: bool
    """Texts are lower-cased before the tokenizer sees them."""
    fingerprint: str


def described(model: str | Path, max_length: int | None) -> Card:
    """Find the model's folder, fetching it where need be, and read what it says. Hashes the weights.

    Raises:
        EmbedderUnavailable: There is no such model here, or it needs more than mean pooling.
        BadLimit: `max_length` is more tokens than the model can read.
    """
    folder = _HUB.located(model)
    config = _HUB.json(folder, "config.json")
    sentence = _HUB.json(folder, "sentence_bert_config.json")
    _require_mean_pooling(folder)
    dim, kind = config.get("hidden_size") or config.get("dim"), config.get("model_type")
    if not isinstance(dim, int) or not isinstance(kind, str):
        raise unavailable(folder, "its config.json is missing or names no model_type and hidden_size")
    positions = config.get("max_position_embeddings") or 512
    own = sentence.get("max_seq_length") or _HUB.json(folder, "tokenizer_config.json").get("model_max_length")
    length = max_length or int(min(own or positions, positions))
    if length > positions:
        raise BadLimit(f"max_length={length!r} is more than the {positions} tokens this model can read.")
    return Card(
        folder=folder,
        dim=dim,
        max_length=length,
        pad_id=config.get("pad_token_id") or 0,
        lowercase=bool(sentence.get("do_lower_case")),
        fingerprint=f"{kind}:{_HUB.sha256(folder, _weights(folder))[:12]}:mean:l2:float32:d{dim}:max{length}",
    )


def _require_mean_pooling(folder: Path) -> None:
    """Refuse what would need other code than a mean: other poolings, dense layers, routers."""
    modules = {
        str(entry.get("type")).rpartition(".")[2]: str(entry.get("path"))
        for entry in _HUB.json(folder, "modules.json").get("items", [])
        if isinstance(entry, dict)
    }
    pooling = _HUB.json(folder, f"{modules.get('Pooling', '1_Pooling')}/config.json")
    # newer files say "pooling_mode": "mean", older ones have one truth value per mode
    modes = pooling.get("pooling_mode") or [
        mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on
    ]
    odd = sorted(set(modules) - {"Transformer", "Pooling", "Normalize"})
    if odd or modes not in ("mean", ["mean"], ["pooling_mode_mean_tokens"], []):
        raise EmbedderUnavailable(
            f"The model in {str(folder)!r} is more than plain mean pooling ({odd or modes!r}). Let its own "
            "library run it: FunctionEmbedder(SentenceTransformer(folder).encode, fingerprint='...')."
        )


def _weights(folder: Path) -> list[Path]:
    """The safetensors where there are any, else the ONNX graph."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob(f"{ONNX}*"))


def _lacking(folder: Path) -> str:
    has_weights = (folder / ONNX).is_file() or any(folder.glob("model*.safetensors"))
    return "" if has_weights else "neither model.safetensors nor onnx/model.onnx"


_HUB = Hub(
    EmbedderUnavailable,
    "embedder",
    "SentenceEmbedder('{}')",
    "sentence-transformers/all-MiniLM-L6-v2",
    ("*.json", "model*.safetensors", "onnx/model.onnx*"),
    _lacking,
)
unavailable = _HUB.unavailable
