"""Which speaker speaks for what was handed over as a model. It imports no torch, and no module of a model.

A model can only exist where its module was imported; so where it was not, it is none of its models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING

from memos_engine.chat.plain import PlainSpeaker
from memos_engine.chat.prompt import Speaker
from memos_engine.errors import BadInput
from memos_engine.ports import ChatModel

if TYPE_CHECKING:
    from typing import TypeGuard

    from memos_engine.blocks.shelf import ActivationShelf
    from memos_engine.models.local import LocalModel
    from memos_engine.models.served import ServedModel

__all__ = ["check_model", "is_local", "is_served", "speaker_of"]

_LOCAL = ("memos_engine.models.local", "LocalModel")
_SERVED = ("memos_engine.models.served", "ServedModel")


def check_model(model: object) -> object:
    """Return `model` unchanged.

    Raises:
        BadInput: it is nothing that can answer; the message says what to hand over.
    """
    if not isinstance(model, type) and (is_local(model) or is_served(model) or _answers(model)):
        return model
    if isinstance(model, str):
        cure = f"make it a model, as in LocalModel({model[:80]!r})"
    elif any(base.__name__ == "PreTrainedModel" for base in type(model).__mro__):
        cure = "make it a LocalModel, as in LocalModel(model, tokenizer=tokenizer)"
    else:
        cure = (
            "hand over a LocalModel, a ServedModel, or any object with complete(messages, *, max_tokens, temperature) "
            "such as HttpChatModel"
        )
    name = model.__name__ if isinstance(model, type) else type(model).__name__
    raise BadInput(f"model is {'the class' if isinstance(model, type) else 'a'} {name}: {cure}")


def is_local(model: object) -> TypeGuard[LocalModel]:
    """Tell whether it is a model of this machine, whose keys and values can be kept."""
    return _is(model, _LOCAL)


def speaker_of(model: object, activation: Callable[[], ActivationShelf], principal: str) -> Speaker:
    """Who speaks for a checked model in one turn.

    Args:
        model: One that `check_model` has taken.
        activation: The blocks and prefixes of the cube; asked for where the model can use them.
        principal: Whose conversation it is.
    """
    if is_local(model):
        from memos_engine.chat.local import LocalSpeaker  # noqa: PLC0415 -- torch; it is there when a LocalModel is

        return LocalSpeaker(model, activation(), principal)
    if is_served(model):
        from memos_engine.chat.served import ServedSpeaker  # noqa: PLC0415 -- few talk to a server

        return ServedSpeaker(model)
    assert isinstance(model, ChatModel), "checked before"
    return PlainSpeaker(model)


def is_served(model: object) -> TypeGuard[ServedModel]:
    """Tell whether it is a model behind a server that keeps what it read."""
    return _is(model, _SERVED)


def _answers(model: object) -> bool:
    """Tell whether it answers messages; other libraries have a `complete` that takes a text."""
    if not isinstance(model, ChatModel):
        return False
    try:
        asked = signature(model.complete)
        asked.bind([], max_tokens=1, temperature=0.0)
    except (TypeError, ValueError):
        return False
    return next(iter(asked.parameters)) not in {"prompt", "text"}


def _is(model: object, named: tuple[str, str]) -> bool:
    module, name = named
    home = sys.modules.get(module)
    return home is not None and isinstance(model, getattr(home, name))
