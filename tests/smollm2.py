"""SmolLM2-135M-Instruct as a plain folder: made once of the pinned GGUF file, then loaded in a second.

Reading the GGUF file itself takes ten seconds. The folder is kept in the environment that runs the tests,
named by the checksum of what it was made of.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.weights import SMOLLM2, smollm2_file

_MADE_BY = 1
"""Raised when the conversion changes."""


@cache
def smollm2_folder() -> Path:
    """Return a folder with the model in float32 as safetensors, and its tokenizer.

    Raises:
        WeightsError: The weights are missing, or not the ones that were pinned.
    """
    source = smollm2_file()
    checksum = SMOLLM2.sha256[source.name]
    folder = Path(sys.prefix) / "share" / "test-models" / f"smollm2-135m-instruct-{checksum[:12]}-{_MADE_BY}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _convert(source, temporary)
            try:
                temporary.rename(folder)
            except OSError:  # another process was first
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert(source: Path, target: Path) -> None:
    where = {"gguf_file": source.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **where)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # what is saved is not quantized any more
    model.is_quantized, model.hf_quantizer = False, None
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, **where).save_pretrained(target)
