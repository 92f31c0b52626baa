"""Tiny random models of many architectures, and a byte tokenizer: made in milliseconds, no download.

Their weights mean nothing; their positions, windows and caches are those of the real architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCABULARY = 320
CONTEXT_TOKENS = 512
SPECIAL = ("<|bos|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # large enough that what was read decides what comes next
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [2.0 + 0.5 * step for step in range(8)],
    "original_max_position_embeddings": 64,
}


def _llama(**rope: Any) -> PretrainedConfig:
    return transformers.LlamaConfig(**_SHAPE, rope_parameters={"rope_theta": 10_000.0, **rope})


def _gemma3() -> PretrainedConfig:
    """Two sliding layers to one full, each kind with its own frequencies."""
    return transformers.Gemma3TextConfig(
        **_SHAPE,
        head_dim=16,
        tie_word_embeddings=False,  # tied, a random one says the last token for ever
        query_pre_attn_scalar=16,
        sliding_window=24,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
        },
    )


def _dynamic() -> PretrainedConfig:
    return transformers.LlamaConfig(
        **{**_SHAPE, "max_position_embeddings": 64},
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 8.0},
    )


def _gpt2() -> PretrainedConfig:
    return transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=CONTEXT_TOKENS,
        initializer_range=0.2,
        bos_token_id=256,
        eos_token_id=258,
    )


def _bloom() -> PretrainedConfig:
    return transformers.BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        n_layer=3,
        n_head=4,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=256,
        eos_token_id=258,
    )


def _deepseek() -> PretrainedConfig:
    return transformers.DeepseekV3Config(
        **{**_SHAPE, "num_key_value_heads": 4},
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=16,
        v_head_dim=16,
        first_k_dense_replace=3,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=32,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )


def _qwen3_next() -> PretrainedConfig:
    """Linear attention in two layers of three."""
    return transformers.Qwen3NextConfig(
        **_SHAPE,
        head_dim=16,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        num_experts=0,
        mlp_only_layers=[0, 1, 2],
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
    )


CONFIGURATIONS: Mapping[str, Callable[[], PretrainedConfig]] = {
    "llama": _llama,
    "linear": lambda: _llama(rope_type="linear", factor=2.0),
    "llama3": lambda: _llama(**_LLAMA3),
    "yarn": lambda: _llama(**_YARN),
    "glm": lambda: transformers.GlmConfig(
        **_SHAPE, head_dim=16, rope_parameters={"rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    ),
    "neox": lambda: transformers.GPTNeoXConfig(
        **_SHAPE, rope_parameters={"rope_theta": 10_000.0, "partial_rotary_factor": 0.25}
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        **_SHAPE, head_dim=16, rope_parameters={"rope_theta": 10_000.0}
    ),
    "mistral": lambda: transformers.MistralConfig(
        **_SHAPE, sliding_window=24, rope_parameters={"rope_theta": 10_000.0}
    ),
    "gemma3": _gemma3,
    "smollm3": lambda: transformers.SmolLM3Config(
        **_SHAPE, no_rope_layers=[1, 0, 1], rope_parameters={"rope_theta": 10_000.0}
    ),
    "dynamic": _dynamic,
    "longrope": lambda: transformers.Phi3Config(
        **_SHAPE, original_max_position_embeddings=64, rope_parameters=dict(_LONGROPE)
    ),
    "gpt2": _gpt2,
    "bloom": _bloom,
    "deepseek": _deepseek,
    "qwen3_next": _qwen3_next,
}
COMPOSABLE = ("llama", "linear", "llama3", "yarn", "glm", "neox", "qwen3", "mistral", "gemma3", "smollm3")


def network(name: str = "llama", *, seed: int = 0) -> PreTrainedModel:
    """Make the model of one architecture, with random weights of that seed."""
    return network_of(CONFIGURATIONS[name](), seed=seed)


def network_of(configuration: PretrainedConfig, *, seed: int = 0) -> PreTrainedModel:
    """Make a model of one's own configuration, with random weights of that seed."""
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        made: PreTrainedModel = AutoModelForCausalLM.from_config(configuration)
    finally:
        torch.random.set_rng_state(state)
    return made.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer whose tokens are the 256 bytes, after them the special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[2], chat_template=CHAT_TEMPLATE
    )


def ids(count: int, *, seed: int = 0) -> tuple[int, ...]:
    """Random ordinary tokens."""
    made = torch.randint(1, 256, (count,), generator=torch.Generator().manual_seed(seed))
    return tuple(made.tolist())
