"""A causal language model of this machine: the one door to transformers and torch for generation.

It reads tokens, keeps what it read as immutable prefixes and blocks, and goes on from them. It knows
no memory, no store and no composition; those are the business of `activation`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memos_engine.errors import BadInput
from memos_engine.models.local_card import model_key
from memos_engine.models.local_chat import PLAIN_STOPS, has_template
from memos_engine.models.local_decoding import Decoding
from memos_engine.models.local_load import adapted, from_files, from_object
from memos_engine.models.local_network import Network
from memos_engine.models.local_prompt import Prompts
from memos_engine.models.local_rates import measured
from memos_engine.models.local_reading import Reading
from memos_engine.models.local_sampling import Sampler, Sampling
from memos_engine.models.local_text import Pieces
from memos_engine.models.local_values import (
    Capabilities,
    Generation,
    KVBlock,
    LayerKV,
    ModelKey,
    Prefix,
    Rates,
)
from memos_engine.ports import ChatMessage

__all__ = ["LocalModel"]

_ROOM_TOKENS = 512
"""Room that is made ahead for the tokens of a generation; a longer one copies its cache now and then."""


class LocalModel:
    """A Hugging Face causal language model, run here.

    Thread-safe: one forward runs at a time, and generations of several threads take turns token by
    token. Nothing that is handed in as a `past` is ever changed.

    Args:
        model: A folder, a GGUF file, a name in the Hugging Face cache or on the hub, or a model in
            memory, which then must not be changed by anyone else. Files of this machine come first.
        tokenizer: For a model in memory. None means that of the files.
        device: Such as `cuda:0`. None means where a model in memory is, else the best there is.
        dtype: To load files in. None means float32 on the CPU, elsewhere that of the files.
        adapter: Folder of a PEFT adapter to put on the model.
        licence: Terms of the weights, which go with every block. None means what the files tell.

    Raises:
        BadInput: `model` is none of these, or no causal language model.
        ModelUnavailable: It or its adapter cannot be had; the message says what to type.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        device: str | None = None,
        dtype: str | torch.dtype | None = None,
        adapter: str | None = None,
        licence: str | None = None,
    ) -> None:
        if isinstance(model, (str, Path)):
            place = _device(device) or torch.device(_best_device())
            loaded = from_files(model, place, _dtype(dtype, place))
        elif isinstance(model, PreTrainedModel):
            if dtype is not None and _named(dtype) != model.dtype:
                raise BadInput(f"dtype={dtype!r} is for files; this model in memory is {model.dtype}.")
            loaded = from_object(model, tokenizer, _device(device))
        else:
            raise BadInput(f"model is {model!r}: hand over a folder, a name, or a transformers model.")
        if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise BadInput(
                f"tokenizer is a {type(tokenizer).__name__}: hand over AutoTokenizer.from_pretrained(folder)"
            )
        if tokenizer is not None:
            loaded = replace(loaded, tokenizer=tokenizer)
        self._adapter: str | None = None
        if adapter is not None:
            loaded, self._adapter = adapted(loaded, adapter)
        self.licence = licence or loaded.licence
        """Terms of the weights; None where nobody told."""
        self._loaded = loaded
        self._network = Network(loaded.module)
        self._encoding = threading.Lock()  # fast tokenizers refuse two callers at once

    def __repr__(self) -> str:
        return f"LocalModel({self.network.name_or_path!r}, device={str(self.device)!r}, dtype={self.network.dtype})"

    @cached_property
    def key(self) -> ModelKey:
        """What decides the keys and values of a text; reads all weights once."""
        loaded = self._loaded
        return model_key(loaded.module, loaded.tokenizer, weights=loaded.weights(), adapter=self._adapter)

    @property
    def capabilities(self) -> Capabilities:
        """What can be done with its keys and values; runs it on two tokens, once."""
        return self._network.capabilities

    @cached_property
    def rates(self) -> Rates:
        """What this machine does with it; measured once, in a few hundred milliseconds."""
        return measured(self._network)

    @property
    def network(self) -> PreTrainedModel:
        """The model of transformers; whoever runs it holds `lock`."""
        return self._network.module

    @property
    def device(self) -> torch.device:
        """Where it is."""
        device: torch.device = self._network.module.device
        return device

    @property
    def lock(self) -> threading.RLock:
        """Held during every forward."""
        return self._network.lock

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer.

        Raises:
            BadInput: It was made without one.
        """
        if self._loaded.tokenizer is None:
            raise BadInput("This model has no tokenizer: LocalModel(model, tokenizer=...) takes one.")
        return self._loaded.tokenizer

    def encode(self, text: str, *, special: bool = False, plain: bool = False) -> tuple[int, ...]:
        """Return the tokens of a text; lone surrogates are read as `?`.

        Args:
            special: With what the tokenizer puts around a text, such as BOS.
            plain: The names of special tokens in it are text like any other: for text that is data.
        """
        if plain and not special:
            return self._prompts.data(text)
        return self._encoded(text, special=special, plain=plain)

    def _encoded(self, text: str, *, special: bool = False, plain: bool = False) -> tuple[int, ...]:
        clean = text.encode("utf-8", "replace").decode("utf-8")
        with self._encoding:
            found = self.tokenizer(
                clean, add_special_tokens=special, split_special_tokens=plain, verbose=False
            )["input_ids"]
        return tuple(found)

    @cached_property
    def _prompts(self) -> Prompts:
        return Prompts(self.tokenizer, self._encoded)

    def encode_chat(self, messages: Sequence[ChatMessage], *, generate: bool = True) -> tuple[int, ...]:
        """Return the tokens of a conversation in the model's own template.

        Names of special tokens in what messages say are read as text, here and in all that follows.

        Args:
            generate: With the header of the answer that is to come.

        Raises:
            BadInput: The model has no chat template, or its template refuses these messages.
        """
        if not has_template(self.tokenizer):
            raise BadInput("This model has no chat template: use an instruct model, or encode() a text.")
        return self._prompts.whole(messages, generate=generate)

    def chat_ids(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Return the tokens of a conversation with the header of the answer to come.

        They are in the model's template, or lines of `role: text` behind BOS where it has none.

        Raises:
            BadInput: The template refuses these messages.
        """
        return self._prompts.whole(messages)

    def chat_parts(
        self, messages: Sequence[ChatMessage], question: str
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens before and after a place at the head of a last message of the user.

        Each side is encoded by itself, so what is put between them changes neither.

        Args:
            messages: The conversation before it; it may be empty.
            question: The last message. The tokens before the place do not depend on it.

        Raises:
            BadInput: The template refuses these messages, or does not show the last one once, as it is.
        """
        return self._prompts.parts(messages, question)

    @property
    def chat_stops(self) -> tuple[str, ...]:
        """Strings that end an answer beside the model's own tokens; none where it has a template."""
        return () if has_template(self.tokenizer) else PLAIN_STOPS

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Return the text of tokens.

        Args:
            special: With the names of special tokens.
        """
        with self._encoding:
            text: str = self.tokenizer.decode(
                list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
            )
        return text

    def prefill(self, ids: Sequence[int], past: Prefix | None = None) -> Prefix:
        """Read tokens and return all that is read by now, `past` included; without ids, `past` as it is.

        Raises:
            BadInput: There is nothing to read, more than the model can, or `past` is not of this model.
            ModelFailed: The network cannot be run on it.
        """
        if past is not None and not ids:
            return past
        reading = Reading(self._network, past, whole=True)
        reading.feed(ids)
        return reading.prefix()

    def block(self, ids: Sequence[int], behind: Sequence[int] = ()) -> KVBlock:
        """Encode `behind` and then `ids` from position 0, and return what is kept of `ids`.

        Raises:
            BadInput: There are no ids, more than the model can read, or the model keeps no blocks.
            ModelFailed: The network cannot be run on them.
        """
        if not self.capabilities.layers:
            raise BadInput(f"This model keeps no blocks: {self.capabilities.reason}.")
        if not ids:
            raise BadInput("There are no ids to encode: give at least one.")
        whole = self.prefill((*behind, *ids))
        start = len(behind)
        return KVBlock(
            ids=tuple(ids),
            behind=tuple(behind),
            layers=tuple(_from(layer, start) for layer in whole.layers),
            key=self.key,
        )

    def logits(self, ids: Sequence[int], past: Prefix | None = None) -> Tensor:
        """Return logits (len(ids), vocab), float32, on the model's device: row i tells what follows ids[i].

        Without ids there is one row, for the last token of `past`.

        Raises:
            BadInput: As `prefill`.
            ModelFailed: As `prefill`.
        """
        return Reading(self._network, past).feed(ids, keep=max(len(ids), 1)).float()

    def logprobs(self, ids: Sequence[int], past: Prefix | None = None) -> Tensor:
        """Return the log-probability of each of the ids after all before it, float32, in nats.

        One number for each id; the first id has none where there is no `past` that it could follow.

        Raises:
            BadInput: As `prefill`.
            ModelFailed: As `prefill`.
        """
        if past is None or not past.ids:
            rows, told = self.logits(ids)[:-1], ids[1:]
        else:
            before = self.logits((), past)
            rows, told = torch.cat([before, self.logits(ids, past)[:-1]]), ids
        chosen = torch.tensor(list(told), dtype=torch.long, device=rows.device)
        return rows.log_softmax(-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)

    def generate(
        self,
        ids: Sequence[int],
        past: Prefix | None = None,
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
    ) -> Generator[str, None, Generation]:
        """Yield what the model says after `past` and `ids`, in pieces of whole characters; return all of it.

        Args:
            ids: New tokens after `past`. Without any, the last one of `past` is read again, unless `past`
                tells what follows it.
            stop: Strings before the first of which the text ends; no part of one is ever yielded.
            temperature: 0 means always the likeliest token.
            top_p: The likeliest tokens with together this probability stay in the draw.
            top_k: At most so many tokens stay in the draw. 0 means all.
            seed: Makes the draw repeatable. None means another one every time.

        Raises:
            BadInput: As `prefill`; or `stop` holds an empty string.
            BadLimit: A number is out of its range.
            ModelFailed: As `prefill`.
        """
        how = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
        return self._decoding(ids, past, how, max_new_tokens, stop).pieces()

    def complete(
        self,
        ids: Sequence[int],
        past: Prefix | None = None,
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
    ) -> Generation:
        """Return what the model says after `past` and `ids`, at once; arguments and errors as `generate`."""
        how = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
        return self._decoding(ids, past, how, max_new_tokens, stop).whole()

    def _decoding(
        self, ids: Sequence[int], past: Prefix | None, how: Sampling, tokens_max: int, stop: Sequence[str]
    ) -> Decoding:
        if isinstance(stop, str) or not all(stop):
            raise BadInput(f"stop={stop!r} must be a list of strings, none of them empty.")
        self.tokenizer  # noqa: B018 -- the text needs one: better now than after the first forward
        if not ids and (past is None or not past.ids):
            raise BadInput("There are no ids to go on from: give at least one, or a past that holds one.")
        return Decoding(
            Reading(self._network, past, room=min(tokens_max, _ROOM_TOKENS)),
            ids,
            pieces=Pieces(self.decode, stop),
            sampler=Sampler(how),
            ends=self._ends,
            max_new_tokens=tokens_max,
            context_tokens=self.capabilities.context_tokens,
        )

    @cached_property
    def _ends(self) -> frozenset[int]:
        """Tokens by which this model says that it has finished."""
        module = self._network.module
        told: set[int] = set()
        for holder in (module.generation_config, module.config, self.tokenizer):
            found = getattr(holder, "eos_token_id", None)
            told.update([found] if isinstance(found, int) else found or ())
        return frozenset(told)


def _from(layer: LayerKV, start: int) -> LayerKV:
    if not start:
        return layer
    return LayerKV(
        layer.keys[:, start:].clone(memory_format=torch.contiguous_format),
        layer.values[:, start:].clone(memory_format=torch.contiguous_format),
    )


def _device(name: str | None) -> torch.device | None:
    try:
        return None if name is None else torch.device(name)
    except (RuntimeError, TypeError) as exc:
        reason = str(exc).partition("\n")[0]
        raise BadInput(f"device={name!r} is none ({reason}): take 'cpu', 'cuda', 'cuda:1' or 'mps'.") from exc


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype | None:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else None
    return _named(dtype)


def _named(dtype: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BadInput(f"dtype={dtype!r} is none to compute in: take 'float32', 'bfloat16' or 'float16'.")
    return found
