"""A conversation as text: by a model's chat template, or as plain `role: text` lines where it has none. Pure.

It also finds the place at the head of the last message, where a template can be cut in two.
"""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from memos_engine.errors import BadInput
from memos_engine.ports import ChatMessage

__all__ = ["PLAIN_STOPS", "halves", "has_template", "plain_text", "rendered", "unused"]

PLAIN_STOPS = ("\nuser:", "\nassistant:", "\nsystem:")
"""Where an answer ends that a model without a template gives: it would go on with the conversation by itself."""


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the model was made for conversations."""
    return bool(getattr(tokenizer, "chat_template", None))


def rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatMessage], *, generate: bool = True
) -> str:
    """Return the conversation in the model's own template.

    Args:
        generate: With the header of the answer that is to come.

    Raises:
        BadInput: The template refuses these messages.
    """
    told = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(told, add_generation_prompt=generate, tokenize=False)
    except (TemplateError, TypeError, ValueError) as exc:
        raise BadInput(f"The model's chat template refuses these {len(told)} messages: {exc}.") from exc
    return text


def plain_text(messages: Sequence[ChatMessage]) -> str:
    """Return the conversation as lines, with the beginning of the answer's."""
    return "".join(f"{message.role}: {message.content}\n" for message in messages) + "assistant:"


def halves(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatMessage], question: str
) -> tuple[str, str]:
    """Return what stands before and from the head of a last message, `question`, of the user.

    Raises:
        BadInput: The template refuses these messages, or has no such place.
    """
    mark = unused("memoriesgohere", [question, *(message.content for message in messages)])
    marked = (*messages, ChatMessage("user", f"{mark}{question}"))
    text = rendered(tokenizer, marked) if has_template(tokenizer) else plain_text(marked)
    if text.count(mark) != 1:
        raise BadInput(
            f"The model's chat template shows the last of {len(marked)} messages {text.count(mark)} times, or "
            "changes it, so nothing can be put at its head: chat with another model, or set another template."
        )
    before, _, after = text.partition(mark)
    return before, after


def unused(word: str, texts: Sequence[str]) -> str:
    """Return letters and digits that stand in none of the texts: no template takes them for anything of its own."""
    number = 0
    while any(f"{word}{number}x" in text for text in texts):
        number += 1
    return f"{word}{number}x"
