"""Where a sentence model's folder is, and what it says about itself; no weight is loaded here.

A folder is read as it stands; a name is looked up in the Hugging Face cache, then on the hub. What
comes out is a `Card`, which `embed.py` runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_engine.errors import BadLimit, EmbedderUnavailable

__all__ = ["ONNX", "Card", "described", "unavailable"]

ONNX = Path("onnx", "model.onnx")
"""Where sentence-transformers publishes the graph, within a model's folder."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_FILES = ("*.json", "model*.safetensors", "onnx/model.onnx*")
_HUB_TIMEOUT_S = 5.0
_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


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
    folder = _located(model)
    config = _json(folder, "config.json")
    sentence = _json(folder, "sentence_bert_config.json")
    _require_mean_pooling(folder)
    dim, kind = config.get("hidden_size") or config.get("dim"), config.get("model_type")
    if not isinstance(dim, int) or not isinstance(kind, str):
        raise unavailable(folder, "its config.json is missing or names no model_type and hidden_size")
    positions = config.get("max_position_embeddings") or 512
    own = sentence.get("max_seq_length") or _json(folder, "tokenizer_config.json").get("model_max_length")
    length = max_length or int(min(own or positions, positions))
    if length > positions:
        raise BadLimit(f"max_length={length!r} is more than the {positions} tokens this model can read.")
    return Card(
        folder=folder,
        dim=dim,
        max_length=length,
        pad_id=config.get("pad_token_id") or 0,
        lowercase=bool(sentence.get("do_lower_case")),
        fingerprint=f"{kind}:{_sha256(folder)[:12]}:mean:l2:float32:d{dim}:max{length}",
    )


def _json(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON object, `{}` where there is no such file; an array becomes `{"items": [...]}`."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise unavailable(folder, f"its {name} cannot be read ({exc})") from exc
    return value if isinstance(value, dict) else {"items": value}


def _require_mean_pooling(folder: Path) -> None:
    """Refuse what would need other code than a mean: other poolings, dense layers, routers."""
    modules = {
        str(entry.get("type")).rpartition(".")[2]: str(entry.get("path"))
        for entry in _json(folder, "modules.json").get("items", [])
        if isinstance(entry, dict)
    }
    pooling = _json(folder, f"{modules.get('Pooling', '1_Pooling')}/config.json")
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


def _sha256(folder: Path) -> str:
    """Hash the weights: the safetensors where there are any, else the ONNX graph."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("model*.safetensors")) or sorted(folder.glob(f"{ONNX}*")):
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as exc:
            raise unavailable(folder, f"{path.name} cannot be read ({exc})") from exc
    return digest.hexdigest()


def _has_weights(folder: Path) -> bool:
    return (folder / ONNX).is_file() or any(folder.glob("model*.safetensors"))


def _located(model: str | Path) -> Path:
    """Return the folder that holds the model, fetching it where a name is not in the cache."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not _has_weights(folder):
            raise unavailable(model, "the folder has neither model.safetensors nor onnx/model.onnx")
        return folder
    if isinstance(model, Path) or not _HUB_NAME.fullmatch(model):
        raise unavailable(model, "there is no such folder")
    try:
        import huggingface_hub as hub  # noqa: PLC0415 -- needed only when a name was given
    except ImportError as exc:
        raise unavailable(model, "huggingface_hub is not installed") from exc
    try:
        cached = hub.try_to_load_from_cache(model, "tokenizer.json")
        if isinstance(cached, str) and _has_weights(Path(cached).parent):
            return Path(cached).parent
        # asked first because it fails fast: a download of the client retries for 23 s without network
        hub.model_info(model, timeout=_HUB_TIMEOUT_S)
        folder = Path(hub.snapshot_download(model, allow_patterns=list(_HUB_FILES)))
    except Exception as exc:  # the hub's errors have no common base; all are translated, none swallowed
        reason = str(exc).partition("\n")[0]
        raise unavailable(model, f"not in the Hugging Face cache, and the hub said: {reason}") from exc
    if not _has_weights(folder):
        raise unavailable(model, "it publishes neither model.safetensors nor onnx/model.onnx")
    return folder


def unavailable(model: str | Path, why: str) -> EmbedderUnavailable:
    """Return the error that says what to type, for a model given by folder or by name."""
    name = model if isinstance(model, str) and _HUB_NAME.fullmatch(model) else _DEFAULT
    base = name.rpartition("/")[2]
    return EmbedderUnavailable(
        f"The embedder {str(model)!r} is not available: {why}. On a connected machine run "
        f"`hf download {name} --local-dir {base}`, copy that folder here, and pass it: "
        f"SentenceEmbedder('/path/to/{base}')."
    )
