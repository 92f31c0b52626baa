"""The licence of a model: told by its folder or its owner, and by every block that is made with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memos_engine.activation.block_file import read_manifest
from memos_engine.activation.folder import Bound, save
from memos_engine.activation.manifest import Manifest
from memos_engine.models.local import LocalModel
from memos_engine.models.local_licence import licence_of
from tests.activation import tiny

CARD = """---
library_name: transformers
license: other
license_name: "gemma"
license_link: https://ai.google.dev/gemma/terms
---
license: not this one
"""


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"README.md": CARD}, "other; gemma; https://ai.google.dev/gemma/terms"),
        ({"README.md": "---\nlicense: apache-2.0\n---\n"}, "apache-2.0"),
        ({"README.md": "license: no front matter\n"}, None),
        ({"LICENSE.txt": "\n  Apache License\nVersion 2.0\n"}, "LICENSE.txt: Apache License"),
        ({"README.md": "---\nlicense: mit\n---", "LICENSE": "MIT License"}, "mit; LICENSE: MIT License"),
        ({"README.md": "---\nno end", "LICENSE": "\xff"}, "LICENSE: \xff"),
        ({}, None),
    ],
)
def test_a_folder_tells_its_licence(tmp_path: Path, files: dict[str, str], told: str | None) -> None:
    """By the card's front matter and the first line of a licence file; nothing where it tells none."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    assert licence_of(tmp_path) == told


def test_a_folder_of_odd_things_tells_nothing(tmp_path: Path) -> None:
    """What cannot be read as a file is passed over."""
    (tmp_path / "README.md").mkdir()
    (tmp_path / "LICENSE").mkdir()
    assert licence_of(tmp_path) is None


def test_a_block_bears_the_licence(tmp_path: Path) -> None:
    """What its owner told of a model stands in the files of its blocks."""
    model = LocalModel(tiny.network("llama"), licence="Gemma Terms of Use")
    path = tmp_path / "block.safetensors"
    save(path, model.block((1, 2, 3)), Bound("c", "b", "p"), scheme="int8", licence=model.licence)
    manifest = read_manifest(path)
    assert isinstance(manifest, Manifest)
    assert manifest.licence == "Gemma Terms of Use"
    assert LocalModel(tiny.network("llama")).licence is None
