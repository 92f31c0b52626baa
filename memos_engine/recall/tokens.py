"""How many tokens a text may cost when the caller names no tokenizer: an upper bound without a download. Pure."""

from __future__ import annotations


def tokens_at_most(text: str) -> int:
    """An upper bound of the tokens of `text` under any byte-level BPE vocabulary: its UTF-8 bytes.

    A byte-level tokenizer (GPT, Llama 3, Qwen, SmolLM families) never spends more than one token on
    a byte, so the bound cannot be broken by any text. It is about four times what English costs:
    hand over `count_tokens=` to fill a budget to the brim.
    """
    return len(text.encode())
