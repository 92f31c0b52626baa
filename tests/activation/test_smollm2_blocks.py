"""Blocks of a real model, SmolLM2-135M-Instruct: exact, half the bytes, and never another answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memos_engine.activation.block_file import load_block, save_block
from memos_engine.activation.codec import Scheme
from memos_engine.activation.values import KVBlock, Prefix
from memos_engine.models.local import LocalModel
from memos_engine.ports import ChatMessage
from tests.smollm2 import smollm2_folder

MEMORY_TOKENS = 600
SUFFIX_TOKENS = 48
CONVERSATION = Path(__file__).parents[2] / "examples" / "data" / "conversation.jsonl"


@pytest.fixture(scope="module")
def model() -> LocalModel:
    """The model, in float32."""
    return LocalModel(smollm2_folder(), device="cpu")


@pytest.fixture(scope="module")
def told(model: LocalModel) -> tuple[int, ...]:
    """The project's own conversation as tokens, BOS first."""
    turns = [json.loads(line) for line in CONVERSATION.read_text(encoding="utf-8").splitlines()]
    text = "".join(f"{turn['name'] or turn['role']}: {turn['text']}\n" for turn in turns)
    return (model.tokenizer.bos_token_id, *model.encode(text))


@pytest.fixture(scope="module")
def block(model: LocalModel, told: tuple[int, ...]) -> KVBlock:
    """The first tokens of the conversation, encoded once."""
    return model.block(told[:MEMORY_TOKENS])


def through_a_file(model: LocalModel, block: KVBlock, path: Path, scheme: Scheme) -> Prefix:
    """What is loaded of a block that was saved."""
    save_block(path, block, scheme=scheme)
    found = load_block(path, model.key, model.capabilities.layers)
    assert isinstance(found, KVBlock), found
    return Prefix(found.ids, found.layers)


def test_a_saved_prefix_is_exact(
    model: LocalModel, told: tuple[int, ...], block: KVBlock, tmp_path: Path
) -> None:
    """From a loaded float32 block the logits and the greedy answer are those of full prefill."""
    past = through_a_file(model, block, tmp_path / "block.safetensors", "float32")
    query = told[MEMORY_TOKENS : MEMORY_TOKENS + 33]
    whole = (*block.ids, *query)
    expected = model.logits(whole)[MEMORY_TOKENS:]
    assert (model.logits(query, past) - expected).abs().max() <= 1e-4
    assert (model.logits(query) - expected).abs().max() > 5
    ours = model.complete(query, past, max_new_tokens=16)
    assert ours.ids == model.complete(whole, max_new_tokens=16).ids
    assert (ours.cached_tokens, ours.prompt_tokens) == (MEMORY_TOKENS, len(whole))


def test_int8_halves_the_bytes_and_keeps_the_words(
    model: LocalModel, told: tuple[int, ...], block: KVBlock, tmp_path: Path
) -> None:
    """An int8 file has at most 0.53 of the bytes of bfloat16, at a KL of at most 1e-4 to the exact prefix."""
    exact = Prefix(block.ids, block.layers)
    rough = through_a_file(model, block, tmp_path / "int8.safetensors", "int8")
    through_a_file(model, block, tmp_path / "bfloat16.safetensors", "bfloat16")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("int8", "bfloat16")]
    assert sizes[0] <= 0.53 * sizes[1]
    losses, agreed = [], []
    for start in (MEMORY_TOKENS, 100, 400):  # going on, and reading again what the memory says
        query = told[start : start + SUFFIX_TOKENS]
        expected = model.logits(query, exact).log_softmax(-1)
        found = model.logits(query, rough).log_softmax(-1)
        losses.append(float((expected.exp() * (expected - found)).sum(-1).mean()))
        agreed.append(float((found.argmax(-1) == expected.argmax(-1)).float().mean()))
    assert sum(losses) / len(losses) <= 1e-4
    assert sum(agreed) / len(agreed) >= 0.98


def test_it_answers_in_its_own_template(model: LocalModel) -> None:
    """The real chat template, end token and tokenizer work together."""
    question = model.encode_chat([ChatMessage("user", "What is the capital of France? One word.")])
    answer = model.complete(question, max_new_tokens=24)
    assert "Paris" in answer.text
    assert answer.finish == "stop"
    assert "<|im_end|>" not in answer.text


def test_many_scripts_are_streamed_whole(model: LocalModel) -> None:
    """Characters whose bytes are several tokens come in one piece each, and nothing is lost."""
    text = "naïve café 我爱北京 🐈‍⬛ नमस्ते"
    ids = model.encode(text)
    assert model.decode(ids) == text
    pieces = list(
        model.generate(model.encode(f"Say it again: {text}\nAgain: {text}\nAgain:"), max_new_tokens=40)
    )
    assert "".join(pieces).strip().startswith("naïve café 我爱")
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces[:-1])
