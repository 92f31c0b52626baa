"""A local model: what it goes on from is what it would have read, whatever the architecture.

All models here are tiny and random; `test_local_smollm2.py` runs real weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from memos_engine.errors import BadInput, BadLimit, ModelFailed
from memos_engine.models.local import LocalModel
from memos_engine.models.local_values import LayerKV, Prefix
from memos_engine.ports import ChatMessage
from tests.activation import tiny

EXACT = 1e-4
"""Largest difference of a logit that counts as none, in float32."""
TEXT = tiny.ids(100)
READ = 60
"""So many tokens of `TEXT` are the prefix: more than the sliding window, fewer than some RoPE limits."""
NEW_TOKENS = 24

every_architecture = pytest.mark.parametrize("name", tiny.CONFIGURATIONS)


@cache
def local(name: str = "llama") -> LocalModel:
    """One model of each architecture for the whole file: tests must not be able to change it."""
    return LocalModel(tiny.network(name), tokenizer=tiny.tokenizer())


def said_by_transformers(network: PreTrainedModel, ids: tuple[int, ...]) -> list[int]:
    """What `generate` of transformers says, greedily."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        said = network.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )
    answer: list[int] = said[0, len(ids) :].tolist()
    return answer


def copied(prefix: Prefix) -> Prefix:
    """A prefix with tensors of its own."""
    return Prefix(prefix.ids, tuple(LayerKV(one.keys.clone(), one.values.clone()) for one in prefix.layers))


def same(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes are equal to the bit."""
    return one.ids == other.ids and all(
        torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values)
        for a, b in zip(one.layers, other.layers, strict=True)
    )


@every_architecture
def test_logits_are_those_of_transformers(name: str) -> None:
    """Reading at once gives what a plain forward of a fresh model gives."""
    with torch.no_grad():
        expected = tiny.network(name)(torch.tensor([TEXT])).logits[0]
    found = local(name).logits(TEXT)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= EXACT


@every_architecture
@pytest.mark.parametrize("read", [1, 20, READ, len(TEXT) - 1])
def test_a_prefix_is_exact(name: str, read: int) -> None:
    """Going on from a prefix gives the logits of reading everything, and the prefix does matter."""
    model = local(name)
    found = model.logits(TEXT[read:], model.prefill(TEXT[:read]))
    assert (found - model.logits(TEXT)[read:]).abs().max() <= EXACT
    if read == READ:
        assert (found - model.logits(TEXT[read:])).abs().max() > 1


@every_architecture
@pytest.mark.parametrize("length", [50, 100])
def test_generation_is_that_of_transformers(name: str, length: int) -> None:
    """Greedy generation equals transformers', from all ids and from a prefix, across windows and switches."""
    model, ids = local(name), tiny.ids(length, seed=1)
    expected = said_by_transformers(tiny.network(name), ids)
    assert len(set(expected)) > 5
    assert list(model.complete(ids, max_new_tokens=NEW_TOKENS).ids) == expected
    past = model.prefill(ids[:30])
    assert list(model.complete(ids[30:], past, max_new_tokens=NEW_TOKENS).ids) == expected


@every_architecture
def test_a_prefix_of_a_prefix(name: str) -> None:
    """Prefilling in steps gives the prefix of prefilling at once, sliding layers whole."""
    model = local(name)
    steps = model.prefill(TEXT[READ:], model.prefill(TEXT[20:READ], model.prefill(TEXT[:20])))
    once = model.prefill(TEXT)
    assert steps.ids == once.ids == TEXT
    for ours, theirs in zip(steps.layers, once.layers, strict=True):
        assert ours.keys.shape[1] == len(TEXT)
        assert ours.keys.is_contiguous()
        assert ours.values.is_contiguous()
        assert (ours.keys - theirs.keys).abs().max() <= EXACT
        assert (ours.values - theirs.values).abs().max() <= EXACT


@every_architecture
def test_the_hundredth_query_is_the_first(name: str) -> None:
    """A hundred queries on one prefix leave it as it was, and the last gives what the first gave."""
    model = local(name)
    past = model.prefill(TEXT[:READ])
    before = copied(past)
    first = model.logits(TEXT[READ : READ + 8], past)
    for round_ in range(98):
        model.complete(tiny.ids(3, seed=round_), past, max_new_tokens=2)
    assert torch.equal(model.logits(TEXT[READ : READ + 8], past), first)
    assert same(past, before)


def test_no_call_changes_the_past() -> None:
    """Every verb that takes a past leaves its tensors equal to the bit, a streamed one half-way too."""
    for name in ("llama", "gemma3"):
        model = local(name)
        past = model.prefill(TEXT[:READ])
        before = copied(past)
        model.prefill(TEXT[READ:], past)
        model.logits(TEXT[READ:], past)
        model.logprobs(TEXT[READ:], past)
        model.complete((), past, max_new_tokens=600 - READ)
        next(iter(model.generate(TEXT[READ:], past, max_new_tokens=8)))
        assert same(past, before)


@every_architecture
def test_without_ids_the_last_token_is_read_again(name: str) -> None:
    """An exact hit on the whole prompt gives what the prompt gives, from a prefix of one token too."""
    model = local(name)
    for length in (1, READ):
        past = model.prefill(TEXT[:length])
        again = model.complete((), past, max_new_tokens=4)
        assert again.ids == model.complete(TEXT[:length], max_new_tokens=4).ids
        assert again.prompt_tokens == length
        assert again.cached_tokens <= length - 1
        rows = model.logits((), past)
        assert rows.shape == (1, tiny.VOCABULARY)
        assert (rows[0] - model.logits(TEXT[:length])[-1]).abs().max() <= EXACT
        assert model.prefill((), past) is past


def test_what_was_reused_is_told() -> None:
    """Tokens of the past count as cached where its tensors served, and not where it was read again."""
    grown = {
        name: local(name).complete(TEXT[READ:], local(name).prefill(TEXT[:READ]), max_new_tokens=1)
        for name in ("llama", "longrope", "qwen3_next")
    }
    assert {name: one.cached_tokens for name, one in grown.items()} == {
        "llama": READ,
        "longrope": 0,
        "qwen3_next": 0,
    }
    assert {one.prompt_tokens for one in grown.values()} == {len(TEXT)}
    assert all(one.seconds_to_first_token > 0 for one in grown.values())


def test_a_dynamic_rope_forgets_other_sequences() -> None:
    """A long sequence leaves nothing behind that changes a later, shorter one."""
    model = local("dynamic")
    before = model.logits(TEXT)
    model.logits(tiny.ids(400))
    assert torch.equal(model.logits(TEXT), before)


def test_a_block_holds_what_stands_behind_others() -> None:
    """A block is the part of a prefill behind the given tokens, in memory of its own."""
    for name in ("llama", "gemma3"):
        model = local(name)
        block = model.block(TEXT[5:READ], behind=TEXT[:5])
        whole = model.prefill(TEXT[:READ])
        assert (block.ids, block.behind, block.start) == (TEXT[5:READ], TEXT[:5], 5)
        assert block.key == model.key
        for held, layer in zip(block.layers, whole.layers, strict=True):
            assert torch.equal(held.keys, layer.keys[:, 5:])
            assert torch.equal(held.values, layer.values[:, 5:])
            assert held.keys.untyped_storage().nbytes() == held.keys.numel() * 4
    alone = local().block(TEXT[:READ])
    assert same(Prefix(alone.ids, alone.layers), local().prefill(TEXT[:READ]))


def test_logprobs_are_those_of_the_ids() -> None:
    """Each id has the log-probability that the row before it gives, with a past and without."""
    model = local()
    rows = model.logits(TEXT).log_softmax(-1)
    expected = torch.tensor([rows[place - 1, TEXT[place]] for place in range(1, len(TEXT))])
    assert (model.logprobs(TEXT) - expected).abs().max() <= EXACT
    behind = model.logprobs(TEXT[READ:], model.prefill(TEXT[:READ]))
    assert (behind - expected[READ - 1 :]).abs().max() <= EXACT
    assert model.logprobs(TEXT[:1]).shape == (0,)


@pytest.mark.parametrize("name", ["llama", "gemma3", "dynamic"])
def test_threads_do_not_disturb_each_other(name: str) -> None:
    """Generations of several threads, of several lengths, give what each gives alone."""
    model = local(name)
    past = model.prefill(TEXT[:20])
    prompts = [tiny.ids(5 + 17 * place, seed=place) for place in range(8)]
    alone = [model.complete(ids, past, max_new_tokens=12).ids for ids in prompts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda ids: model.complete(ids, past, max_new_tokens=12).ids, prompts * 3))
    assert together == alone * 3


def test_pieces_join_to_the_whole() -> None:
    """What is streamed is the text, in several pieces, and the text is that of the tokens."""
    model = local()
    for seed in range(5):
        ids = tiny.ids(20, seed=seed)
        whole = model.complete(ids, max_new_tokens=60)
        pieces = list(model.generate(ids, max_new_tokens=60))
        assert "".join(pieces) == whole.text == model.decode(whole.ids)
        assert len(pieces) > 5
        assert all(pieces)


def test_a_stop_string_ends_the_text() -> None:
    """The text ends before the first stop string, wherever the borders of the tokens are."""
    model = local()
    whole = model.complete(TEXT, max_new_tokens=60)
    stop = whole.text[5:8]
    cut = model.complete(TEXT, max_new_tokens=60, stop=["never said", stop])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert (cut.finish, whole.finish) == ("stop", "length")
    assert len(cut.ids) < len(whole.ids)
    assert "".join(model.generate(TEXT, max_new_tokens=60, stop=[stop])) == cut.text


def test_an_end_token_ends_the_text() -> None:
    """A token that the model calls its end is among the ids and not in the text."""
    network = tiny.network()
    said = said_by_transformers(network, TEXT)
    network.generation_config.eos_token_id = [said[7], 258]
    model = LocalModel(network, tokenizer=tiny.tokenizer())
    found = model.complete(TEXT, max_new_tokens=NEW_TOKENS)
    first = said.index(said[7])
    assert list(found.ids) == said[: first + 1]
    assert found.text == model.decode(found.ids[:-1])
    assert found.finish == "stop"


def test_the_context_ends_the_text() -> None:
    """A generation stops where the model can read no further; a longer prompt is refused."""
    model = local()
    ids = tiny.ids(tiny.CONTEXT_TOKENS - 3)
    found = model.complete(ids, max_new_tokens=50)
    assert (len(found.ids), found.finish) == (4, "length")
    with pytest.raises(BadInput, match="512"):
        model.logits(tiny.ids(tiny.CONTEXT_TOKENS + 1))


def test_a_seed_repeats_the_draw() -> None:
    """The same seed gives the same text, another seed another, and a draw of one candidate is greedy."""
    model = local()

    def drawn(seed: int | None, **how: float) -> tuple[int, ...]:
        return model.complete(TEXT, max_new_tokens=20, seed=seed, **{"temperature": 1.0, **how}).ids  # type: ignore[arg-type] # -- a mix of kinds

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(None) != drawn(None)
    greedy = model.complete(TEXT, max_new_tokens=20).ids
    assert drawn(1, top_k=1) == drawn(2, top_p=1e-9) == drawn(3, temperature=1e-9) == greedy


def test_a_chat_is_put_into_the_template() -> None:
    """Messages become the template's text, with or without the header of the answer."""
    model = local()
    chat = [ChatMessage("system", "Be brief."), ChatMessage("user", "我?")]
    told = "<|bos|><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n我?<|im_end|>\n"
    assert model.decode(model.encode_chat(chat, generate=False), special=True) == told
    assert model.decode(model.encode_chat(chat), special=True) == told + "<|im_start|>assistant\n"
    assert model.encode_chat(chat)[:2] == (256, 257)


def test_text_survives_its_tokens() -> None:
    """Encoding and decoding gives the text back; lone surrogates become question marks."""
    model = local()
    for text in ("", " two  spaces ", "naïve café 我爱 🐈‍⬛", "\x00\n\t"):
        assert model.decode(model.encode(text)) == text
    assert model.decode(model.encode("a\ud800b")) == "a?b"


def test_rates_are_measured_once() -> None:
    """Rates are positive, of growing lengths, and the second look costs nothing."""
    model = LocalModel(tiny.network(), tokenizer=tiny.tokenizer())
    rates = model.rates
    assert model.rates is rates
    assert list(rates.prefill_tokens_per_s) == sorted(rates.prefill_tokens_per_s)
    numbers = [*rates.prefill_tokens_per_s.values(), rates.read_bytes_per_s, rates.copy_bytes_per_s]
    assert all(number > 0 and math.isfinite(number) for number in numbers)
    assert rates.cold_read_bytes_per_s is None or rates.cold_read_bytes_per_s < rates.read_bytes_per_s


def test_the_model_says_where_it_is() -> None:
    """Device, network, lock and tokenizer are those it was given."""
    network, tokenizer = tiny.network(), tiny.tokenizer()
    model = LocalModel(network, tokenizer=tokenizer, device="cpu")
    assert model.network is network
    assert not network.training
    assert model.tokenizer is tokenizer
    assert model.device == torch.device("cpu")
    with model.lock, model.lock:
        model.logits(TEXT[:3])


REFUSED: dict[str, tuple[Callable[[LocalModel, Prefix], object], type[Exception], str]] = {
    "nothing to prefill": (lambda model, past: model.prefill(()), BadInput, "at least one"),
    "no ids for logits": (lambda model, past: model.logits(()), BadInput, "at least one"),
    "nothing to say more of": (
        lambda model, past: model.generate((), max_new_tokens=1),
        BadInput,
        "at least one",
    ),
    "an empty block": (lambda model, past: model.block((), behind=(1,)), BadInput, "at least one"),
    "an id too large": (lambda model, past: model.prefill((5, 400)), BadInput, "320"),
    "an id below 0": (lambda model, past: model.prefill((5, -1)), BadInput, "320"),
    "no new tokens": (lambda model, past: model.complete((5,), max_new_tokens=0), BadLimit, "=0"),
    "an empty stop": (
        lambda model, past: model.generate((5,), max_new_tokens=1, stop=[""]),
        BadInput,
        "empty",
    ),
    "a bare stop": (lambda model, past: model.generate((5,), max_new_tokens=1, stop="a"), BadInput, "list"),
    "cold": (lambda model, past: model.generate((5,), max_new_tokens=1, temperature=-1), BadLimit, "-1"),
    "not a heat": (
        lambda model, past: model.generate((5,), max_new_tokens=1, temperature=math.nan),
        BadLimit,
        "nan",
    ),
    "no top_p": (lambda model, past: model.generate((5,), max_new_tokens=1, top_p=0), BadLimit, "top_p"),
    "a top_k below 0": (
        lambda model, past: model.generate((5,), max_new_tokens=1, top_k=-1),
        BadLimit,
        "top_k",
    ),
    "other heads": (lambda model, past: model.logits((5,), local("neox").prefill(TEXT)), BadInput, "prefill"),
    "a token less": (
        lambda model, past: model.logits((5,), Prefix(past.ids[1:], past.layers)),
        BadInput,
        "prefill",
    ),
    "a layer less": (
        lambda model, past: model.logits((5,), Prefix(past.ids, past.layers[1:])),
        BadInput,
        "prefill",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case: str) -> None:
    """Bad ids, numbers and foreign prefixes raise errors of ours at the call, not while streaming."""
    call, error, says = REFUSED[case]
    with pytest.raises(error, match=says):
        call(local(), local().prefill(TEXT[:5]))


def test_a_model_without_tokenizer_reads_ids_only() -> None:
    """Tokens can be read; text, and with it a template, needs a tokenizer."""
    model = LocalModel(tiny.network())
    assert model.logits(TEXT[:3]).shape == (3, tiny.VOCABULARY)
    for call in (
        lambda: model.encode("a"),
        lambda: model.generate((5,), max_new_tokens=1),
        lambda: model.encode_chat([ChatMessage("user", "a")]),
    ):
        with pytest.raises(BadInput, match="tokenizer"):
            call()


def test_templates_that_are_missing_or_refuse() -> None:
    """No chat template, and one that raises, are errors of ours."""
    bare, strict = tiny.tokenizer(), tiny.tokenizer()
    bare.chat_template = None
    strict.chat_template = "{{ raise_exception('no system message') }}"
    chat = [ChatMessage("system", "a")]
    with pytest.raises(BadInput, match="no chat template"):
        LocalModel(tiny.network(), tokenizer=bare).encode_chat(chat)
    with pytest.raises(BadInput, match="no system message"):
        LocalModel(tiny.network(), tokenizer=strict).encode_chat(chat)


def test_a_model_that_keeps_no_blocks_says_why() -> None:
    """Linear attention has no keys to keep: its prefix is its ids, and a block is refused with the reason."""
    model = local("qwen3_next")
    assert (model.prefill(TEXT).ids, model.prefill(TEXT).layers) == (TEXT, ())
    with pytest.raises(BadInput, match="LinearAttention"):
        model.block(TEXT)


def test_weights_that_are_broken_fail_as_such() -> None:
    """Logits that are not numbers are an error, not token 0."""
    network = tiny.network()
    with torch.no_grad():
        network.lm_head.weight.fill_(math.nan)
    with pytest.raises(ModelFailed, match="finite"):
        LocalModel(network, tokenizer=tiny.tokenizer()).complete((5,), max_new_tokens=3)


@pytest.mark.parametrize("model", [3, None, torch.nn.Linear(2, 2)], ids=["number", "none", "layer"])
def test_what_is_no_model_is_refused(model: Any) -> None:
    """Anything but a folder, a name or a transformers model is bad input."""
    with pytest.raises(BadInput, match="hand over"):
        LocalModel(model)


def test_a_dtype_is_for_files() -> None:
    """A model in memory is not cast behind its owner's back; its own dtype may be named."""
    assert LocalModel(tiny.network(), dtype="float32").network.dtype == torch.float32
    with pytest.raises(BadInput, match="bfloat16"):
        LocalModel(tiny.network(), dtype="bfloat16")
    with pytest.raises(BadInput, match="int8"):
        LocalModel(tiny.network(), dtype="int8")
