"""A local model as a speaker: it reads the conversation it has read before no second time, and composes blocks.

The tokens of a prompt are settled first: head, one passage after another, the rest, each encoded by itself.
Whatever becomes of blocks and prefixes, these are the tokens that the answer goes on from.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from memos_engine.activation.chain import chain_root
from memos_engine.activation.compose import compose
from memos_engine.activation.values import Generation, KVBlock, LayerKV, Prefix
from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.chat.prompt import Prompt, Said, Saying
from memos_engine.errors import BadInput, ModelFailed
from memos_engine.items import BlockInfo
from memos_engine.models.local import LocalModel
from memos_engine.ports import ChatMessage

if TYPE_CHECKING:
    from memos_engine.activation.plan import Policy
    from memos_engine.blocks.shelf import ActivationShelf

__all__ = ["LocalSpeaker"]

_Going: TypeAlias = Generator[str, None, Generation]

_WORTH_TOKENS = 32
"""So many new tokens of a conversation are worth a forward of their own, to be kept for the next turn."""
_ANSWER_PART = 2
"""One part in so many of what the conversation leaves is enough room for any answer."""
_JOIN_TOKENS = 8
"""Texts that are encoded one by one may cost a few tokens more than together."""


@dataclass(frozen=True, slots=True)
class _Ids:
    """The tokens of a prompt."""

    head: tuple[int, ...]
    """All that is exact for the next turn of the conversation too."""
    blocks: tuple[KVBlock, ...]
    rest: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return (*self.head, *(token for block in self.blocks for token in block.ids), *self.rest)


@dataclass(frozen=True, eq=False, slots=True)
class _Read:
    """A prompt as far as it is read, and how."""

    prefix: Prefix | None
    rest: tuple[int, ...]
    cached: int
    """Tokens that were not read again."""
    method: str
    error_class: str
    reason: str
    exact: int = 0
    """So many tokens of the prefix are worth keeping for the next turn."""


class LocalSpeaker:
    """Speaks for a `LocalModel` in one turn.

    Args:
        model: Who speaks.
        activation: Its blocks and prefixes in the cube. None: it has none.
        principal: Whose conversation it is; prefixes are found by nobody else.
    """

    def __init__(self, model: LocalModel, activation: ActivationShelf | None, principal: str) -> None:
        self._model = model
        self._activation = activation
        self._principal = principal
        self._fetched: dict[str, KVBlock] = {}
        self._moment = activation.prefixes.moment(activation.cube) if activation else 0
        """Before anything is recalled: what is forgotten after it is not kept."""

    @property
    def apart(self) -> bool:
        """Lines of one day stand under one date."""
        return False

    def count_tokens(self, text: str) -> int:
        """Tokens of a text that is data."""
        return len(self._model.encode(text, plain=True))

    def room(self, before: Sequence[ChatMessage], question: str, answer_tokens: int) -> int | None:
        """Tokens left for memories.

        Raises:
            BadInput: the conversation leaves no room for an answer, or the template refuses it.
        """
        limit = self._model.capabilities.context_tokens
        taken = len(self._model.chat_ids((*before, ChatMessage("user", question))))
        if taken >= limit:
            raise BadInput(
                f"this conversation is {taken:,} tokens and the model reads {limit:,}, its answer included: leave out "
                "the oldest messages, they are remembered where they were captured"
            )
        kept = min(answer_tokens, (limit - taken) // _ANSWER_PART)  # an answer ends at the context anyway
        return limit - taken - kept - _JOIN_TOKENS

    def blocks(self, item_ids: Sequence[str]) -> Sequence[BlockInfo]:
        """Blocks of this model that hold some of the items."""
        if self._activation is None or not self._model.capabilities.layers:
            return ()
        return self._activation.covering(self._model.key.digest, item_ids)

    def fetch(self, blocks: Sequence[BlockInfo]) -> Collection[str]:
        """Bring blocks into memory; a miss is counted there and told nowhere else."""
        assert self._activation is not None, "blocks came from there"
        found, _ = self._activation.fetch(self._model, blocks)
        self._fetched.update(found)
        return found.keys()

    def say(self, prompt: Prompt, how: Saying) -> Generator[str, None, Said]:
        """Yield the answer in pieces; what blocks do wrong is made good by reading everything, once.

        Raises:
            BadInput: the prompt is more than the model reads.
            BadLimit: a number of `how` is out of its range.
            ModelFailed: the network cannot be run on it.
        """
        began = time.perf_counter()
        ids = self._ids(prompt)
        try:
            read = self._composed(ids, how) if ids.blocks else self._plain(ids, _why_text(prompt, how))
            ready_s = time.perf_counter() - began
            going, piece = self._started(read, how)
        except (
            ModelFailed,
            RuntimeError,
            IndexError,
        ) as exc:  # the latter are torch's, of tensors that do not fit
            if not ids.blocks:
                raise
            read = _Read(None, ids.all, 0, "full", "exact", f"Blocks failed, so all was read as text: {exc}")
            ready_s = time.perf_counter() - began
            going, piece = self._started(read, how)
        self._keep(read)
        told = yield from self._shown(going, piece)
        return Said(
            text=told.text.lstrip() if self._model.chat_stops else told.text,
            finish=told.finish,
            prompt_tokens=told.prompt_tokens,
            cached_tokens=read.cached if told.cached_tokens else 0,
            completion_tokens=len(told.ids),
            method=read.method,
            error_class=read.error_class,
            reason=read.reason,
            seconds_to_first_token=ready_s + told.seconds_to_first_token,
        )

    def _started(self, read: _Read, how: Saying) -> tuple[_Going, str | Generation]:
        """The generation, and its first piece: from here on no block can fail."""
        going = self._model.generate(
            read.rest,
            read.prefix,
            max_new_tokens=how.max_new_tokens,
            stop=(*how.stop, *self._model.chat_stops),
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k,
            seed=how.seed,
        )
        return going, _next(going)

    def _shown(self, going: _Going, piece: str | Generation) -> _Going:
        """All pieces from the first one on, without the blank that follows a plain `assistant:`."""
        leading = bool(self._model.chat_stops)
        while isinstance(piece, str):
            shown = piece.lstrip() if leading else piece
            if shown:
                leading = False
                yield shown
            piece = _next(going)
        return piece

    def _ids(self, prompt: Prompt) -> _Ids:
        """The tokens of the prompt; what no block holds just as it stands there is text."""
        model = self._model
        if not prompt.memories:
            ids = model.chat_ids(prompt.messages())
            return _Ids(ids[:-1], (), ids[-1:])
        before, after = model.chat_parts(prompt.before, f"{CLOSING}{prompt.question}")
        used: list[KVBlock] = []
        rest: tuple[int, ...] = ()
        for part in prompt.memories:
            ids = model.encode(part.text, plain=True)
            block = self._fetched.get(part.block) if part.block else None
            if block is not None and block.ids == ids:
                used.append(block)
            else:
                rest += ids
        return _Ids((*before, *model.encode(OPENING)), tuple(used), rest + after)

    def _plain(self, ids: _Ids, reason: str) -> _Read:
        """Without blocks: what was read before, and what is worth reading ahead to be kept."""
        known = self._known(ids.head)
        head = self._ahead(ids, known)
        cached = len(known.ids) if known else 0
        exact = 0 if head is None or head is known else len(head.ids)
        unread = ids.all[len(head.ids) if head else 0 :]
        return _Read(head, unread, cached, "text", "exact", reason, exact)

    def _composed(self, ids: _Ids, how: Saying) -> _Read:
        """Blocks put together behind the head."""
        assert self._activation is not None, "blocks came from there"
        policy: Policy = how.policy  # type: ignore[assignment] # -- checked where it came in
        known = self._known(ids.head)
        before = len(known.ids) if known else 0
        made = compose(
            self._model,
            ids.blocks,
            ids.rest,
            behind=ids.head,
            policy=policy,
            budget_s=how.budget_s,
            chain=self._activation.prefixes,
            salt=self._activation.salt(self._principal),
        )
        prefix, rest = made.prefix if made.prefix.ids else None, made.rest
        held, head = len(made.prefix.ids), len(ids.head)
        if held < head:  # it is all to be read: the head first, so that it can be kept
            prefix = self._ahead(ids, prefix)
            rest = ids.all[len(prefix.ids) if prefix else 0 :]
            cached = held
        elif made.method in ("exact", "full"):
            cached = held - (head - before)
        else:
            cached = len(ids.all) - len(ids.rest) - (head - before) - made.recomputed
        worth = prefix is not None and len(prefix.ids) >= head >= before + _WORTH_TOKENS
        exact = head if worth else 0
        return _Read(prefix, rest, cached, made.method, made.error_class, made.reason, exact)

    def _known(self, ids: tuple[int, ...]) -> Prefix | None:
        """The longest beginning of these tokens that this principal has read in this cube before."""
        model, activation = self._model, self._activation
        if activation is None or not model.capabilities.layers:
            return None
        root = chain_root(model.key, salt=activation.salt(self._principal))
        match = activation.prefixes.longest(ids, root=root)
        if match is None:
            return None
        whole = match.tokens == len(match.kept.ids)
        # keys that depend on the length of the sequence are those of the whole one only
        return _cropped(match.kept, match.tokens) if whole or model.capabilities.composable else None

    def _ahead(self, ids: _Ids, known: Prefix | None) -> Prefix | None:
        """The head, read by itself where that is worth it; else what is known of it."""
        count = len(known.ids) if known else 0
        worth = self._activation is not None and bool(self._model.capabilities.layers)
        if not worth or len(ids.head) - count < _WORTH_TOKENS:
            return known
        return self._model.prefill(ids.head[count:], known)

    def _keep(self, read: _Read) -> None:
        """Keep the exact beginning of a prompt for the next turn of its conversation."""
        activation = self._activation
        if activation is None or read.prefix is None or not read.exact:
            return
        kept = read.prefix
        if read.exact < len(kept.ids):
            kept = _cropped(kept, read.exact, owned=True)
        activation.prefixes.keep(
            kept, self._model.key, cube=activation.cube, principal=self._principal, moment=self._moment
        )


def _why_text(prompt: Prompt, how: Saying) -> str:
    """Why no block is used."""
    if not prompt.memories:
        return "Nothing was recalled."
    return "Asked for: all is read as text." if how.policy == "full" else "No block holds what was recalled."


def _next(going: _Going) -> str | Generation:
    """The next piece, or what all of them were."""
    try:
        return next(going)
    except StopIteration as over:
        told: Generation = over.value
        return told


def _cropped(prefix: Prefix, count: int, *, owned: bool = False) -> Prefix:
    """The first tokens of a prefix.

    Args:
        owned: In memory of their own, so that nothing else is held by them.
    """
    if count == len(prefix.ids):
        return prefix
    layers = [LayerKV(layer.keys[:, :count], layer.values[:, :count]) for layer in prefix.layers]
    if owned:
        layers = [LayerKV(_owned(layer.keys), _owned(layer.values)) for layer in layers]
    return Prefix(prefix.ids[:count], tuple(layers))


def _owned(rows: Tensor) -> Tensor:
    return rows.clone(memory_format=torch.contiguous_format)
