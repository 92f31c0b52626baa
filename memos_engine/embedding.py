"""What of an item is embedded, and under which name. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_engine.items import MemoryItem
from memos_engine.store.paths import texts_at
from memos_engine.store.rows import is_indexed
from memos_engine.times.wording import spoken

NamedVectors: TypeAlias = dict[str, NDArray[np.float32]]
"""Vectors (D,) of an item by name."""


def texts_by_name(item: MemoryItem, names: Sequence[str] = ()) -> dict[str, str]:
    """What is embedded for an item: `turn` with date and speaker, `text` as it is, or fields of a value by path."""
    if item.key is not None:
        if not names:  # put without a model, or out of search until now: the words that were indexed
            return {"$#0": item.text}
        paths = dict.fromkeys(name.rsplit("#", 1)[0] for name in names)
        return {
            f"{path}#{n}": text for path in paths for n, text in enumerate(texts_at(item.value or {}, path))
        }
    if item.kind == "episode":
        return {"turn": spoken(item.text, item.speaker, item.event_at)}
    return {"text": spoken(item.text, item.speaker, None)}


def reads_otherwise(before: MemoryItem, after: MemoryItem) -> bool:
    """Whether an update calls for new vectors: other words, or back into search."""
    return texts_by_name(before) != texts_by_name(after) or (is_indexed(after) and not is_indexed(before))
