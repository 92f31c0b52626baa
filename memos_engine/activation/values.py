"""The values of this stage: what a local model makes and goes on from.

They are defined beside the model, which stands below every stage, and carry this name here.
"""

from memos_engine.models.local_values import (
    Capabilities,
    Generation,
    KVBlock,
    LayerKind,
    LayerKV,
    ModelKey,
    Prefix,
    Rates,
)

__all__ = ["Capabilities", "Generation", "KVBlock", "LayerKV", "LayerKind", "ModelKey", "Prefix", "Rates"]
