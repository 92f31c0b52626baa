"""A local model from a folder, a GGUF file or a name: located, loaded in silence, ready to run.

Only safetensors and GGUF are read, never pickles, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from memos_engine.errors import BadInput, ModelUnavailable
from memos_engine.models.hub import Hub, no_progress_bar
from memos_engine.models.local_card import digest_of_files, digest_of_tensors
from memos_engine.models.local_licence import LICENCE_FILES, licence_of

__all__ = ["Loaded", "adapted", "from_files", "from_object"]

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A network on its device, and what it was made of."""

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    weights: Callable[[], str]
    """Digest of the weights; reads them when called."""
    licence: str | None = None
    """Of the weights, as far as it is known."""


def _lacking(folder: Path) -> str:
    if len(list(folder.glob("*.gguf"))) == 1:
        return ""
    if not (folder / "config.json").is_file():
        return "neither config.json nor one GGUF file"
    return "" if any(folder.glob("*.safetensors")) else "no *.safetensors (pickled weights are not read)"


_HUB = Hub(
    error=ModelUnavailable,
    what="local model",
    example="LocalModel('{}')",
    default="HuggingFaceTB/SmolLM2-135M-Instruct",
    files=("*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "*.txt", *LICENCE_FILES),
    lacking=_lacking,
)


def from_files(model: str | Path, device: torch.device, dtype: torch.dtype | None) -> Loaded:
    """Load a model and its tokenizer.

    Args:
        model: A folder, a GGUF file, or a name in the Hugging Face cache or on the hub.
        dtype: None means that of the files.

    Raises:
        ModelUnavailable: It cannot be had or loaded; the message says what to type.
    """
    given = Path(model).expanduser()
    folder = given.parent if given.suffix == ".gguf" and given.is_file() else _HUB.located(model)
    if folder == given.parent and given.is_file():
        weights: tuple[Path, ...] = (given,)
    elif (folder / "config.json").is_file():
        weights = tuple(folder.glob("*.safetensors"))
    else:
        weights = tuple(folder.glob("*.gguf"))
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if weights[0].suffix == ".gguf":
        options["gguf_file"] = weights[0].name
    try:
        with no_progress_bar(transformers.logging):
            module, told = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype or "auto", use_safetensors=True, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as exc:  # readers of files raise what they like; all is translated, none swallowed
        reason = str(exc).strip().partition("\n")[0]
        raise _HUB.unavailable(model, f"transformers cannot load it ({reason})") from exc
    if missing := sorted(told["missing_keys"]):
        raise _HUB.unavailable(
            model,
            f"{len(missing)} of its weights are not in its files, such as {missing[0]!r}: it is no causal language "
            "model, or not whole",
        )
    return Loaded(_placed(module, device), tokenizer, lambda: digest_of_files(weights), licence_of(folder))


def _placed(module: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Bring a model to a device.

    Raises:
        BadInput: There is no such device here, or too little memory on it.
    """
    try:
        return module.to(device)
    except (AssertionError, RuntimeError) as exc:  # the first is what torch says without CUDA
        reason = str(exc).strip().partition("\n")[0]
        raise BadInput(
            f"device={str(device)!r} cannot hold the model ({reason}): take another, such as 'cpu'."
        ) from exc


def from_object(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, device: torch.device | None
) -> Loaded:
    """Take a model that is in memory, where it is unless a device is named."""
    placed = module if device is None else _placed(module, device)
    return Loaded(placed, tokenizer, lambda: digest_of_tensors(placed))


def adapted(loaded: Loaded, adapter: str) -> tuple[Loaded, str]:
    """Put a PEFT adapter on a model, in place; return it and the adapter's digest.

    Raises:
        ModelUnavailable: There is no such adapter, it does not fit, or peft is not installed.
    """
    folder = Path(adapter).expanduser()
    paths = [folder / name for name in _ADAPTER_FILES]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ModelUnavailable(
            f"The adapter {adapter!r} is not available: the folder has no {' and no '.join(missing)}. Save one "
            "with PEFT's save_pretrained(folder), as safetensors."
        )
    digest = digest_of_files(paths)
    plain = loaded.weights()  # told before the adapter is among them
    try:
        with no_progress_bar(transformers.logging):
            loaded.module.load_adapter(str(folder), use_safetensors=True)
    except Exception as exc:  # as above
        reason = str(exc).strip().partition("\n")[0]
        raise ModelUnavailable(f"The adapter {adapter!r} cannot be loaded ({reason}).") from exc
    return replace(loaded, weights=lambda: plain), digest
