"""Local models from folders: what loads, what is refused, and what an error tells to type."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from memos_engine.errors import BadInput, ModelUnavailable
from memos_engine.models.local import LocalModel
from tests.activation import tiny
from tests.weights import minilm_folder

IDS = tiny.ids(40)

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model as transformers saves one."""
    target = tmp_path / "model"
    tiny.network().save_pretrained(target)
    tiny.tokenizer().save_pretrained(target)
    return target


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter for that model that does something."""
    torch.manual_seed(0)
    adapted = get_peft_model(tiny.network(), LoraConfig(r=4, target_modules=["k_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    target = tmp_path / "adapter"
    adapted.save_pretrained(target, save_embedding_layers=False)
    return target


def test_a_folder_is_the_model_it_was_saved_from(folder: Path) -> None:
    """Loaded from files it reads, encodes and says what it did in memory, as text path and as Path."""
    expected = LocalModel(tiny.network(), tokenizer=tiny.tokenizer())
    for given in (folder, str(folder)):
        model = LocalModel(given, device="cpu")
        assert torch.equal(model.logits(IDS), expected.logits(IDS))
        assert model.encode("naïve 我") == expected.encode("naïve 我")
        assert model.key.tokenizer == expected.key.tokenizer
        assert model.key.template == expected.key.template
        assert model.key.rope == expected.key.rope


def test_the_key_of_files_is_that_of_their_content(folder: Path, tmp_path: Path) -> None:
    """A copy elsewhere has the same key; other weights in the same place have another."""
    copy = tmp_path / "copy"
    folder.rename(copy)
    moved = LocalModel(copy, device="cpu").key
    copy.rename(folder)
    before = LocalModel(folder, device="cpu").key
    assert moved == before
    tiny.network(seed=1).save_pretrained(folder)
    after = LocalModel(folder, device="cpu").key
    assert after.model != before.model
    assert after.tokenizer == before.tokenizer


def test_the_dtype_is_asked_for(folder: Path) -> None:
    """On the CPU files are loaded in float32, whatever they are in, unless another dtype is named."""
    tiny.network().to(torch.bfloat16).save_pretrained(folder)
    assert LocalModel(folder, device="cpu").network.dtype == torch.float32
    assert LocalModel(folder, device="cpu").key.dtype == "float32"
    half = LocalModel(folder, device="cpu", dtype="bfloat16")
    assert half.key.dtype == "bfloat16"
    assert half.prefill(IDS).layers[0].keys.dtype == torch.bfloat16


def test_a_prefix_is_exact_in_half_precision(folder: Path) -> None:
    """In bfloat16 going on from a prefix differs from reading at once by rounding only."""
    model = LocalModel(folder, device="cpu", dtype=torch.bfloat16)
    found = model.logits(IDS[20:], model.prefill(IDS[:20]))
    assert (found - model.logits(IDS)[20:]).abs().max() < 0.5
    assert (found - model.logits(IDS[20:])).abs().max() > 2


def test_an_adapter_changes_the_model_and_the_key(folder: Path, adapter: Path) -> None:
    """Keys made with an adapter are others, and so is the fingerprint of nothing but the adapter."""
    plain = LocalModel(folder, device="cpu")
    adapted = LocalModel(folder, device="cpu", adapter=str(adapter))
    assert adapted.key.adapter is not None
    assert (adapted.key.model, adapted.key.rope) == (plain.key.model, plain.key.rope)
    assert (adapted.prefill(IDS).layers[1].keys - plain.prefill(IDS).layers[1].keys).abs().max() > 0.1
    found = adapted.logits(IDS[20:], adapted.prefill(IDS[:20]))
    assert (found - adapted.logits(IDS)[20:]).abs().max() <= 1e-4
    in_memory = LocalModel(tiny.network(), tokenizer=tiny.tokenizer())
    with_adapter = LocalModel(tiny.network(), tokenizer=tiny.tokenizer(), adapter=str(adapter))
    assert with_adapter.key.adapter == adapted.key.adapter
    assert with_adapter.key.model == in_memory.key.model


def test_an_adapter_that_is_not_there_is_told(folder: Path, adapter: Path, tmp_path: Path) -> None:
    """A missing adapter, a pickled one, and one of another model are errors of ours."""
    with pytest.raises(ModelUnavailable, match=r"adapter_config\.json"):
        LocalModel(folder, device="cpu", adapter=str(tmp_path / "nowhere"))
    weights = adapter / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelUnavailable, match="safetensors"):
        LocalModel(folder, device="cpu", adapter=str(adapter))
    weights.write_bytes(content[:-40])
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        LocalModel(folder, device="cpu", adapter=str(adapter))


def test_pickled_weights_are_not_read(folder: Path) -> None:
    """A folder with a pickle in place of safetensors is refused, and says so."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="pickled"):
        LocalModel(folder)


def test_code_of_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    """A folder that asks for code of its own does not get it run."""
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = (folder / "config.json").read_text()
    asking = '{"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},'
    (folder / "config.json").write_text(
        asking + config.lstrip().removeprefix("{").replace('"llama"', '"evil"')
    )
    with pytest.raises(ModelUnavailable):
        LocalModel(folder, device="cpu")
    assert not ran.exists()


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_files_are_told(folder: Path, broken: str) -> None:
    """A file that is cut short is an error of ours that names the model."""
    path = folder / broken
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelUnavailable, match="cannot load it"):
        LocalModel(folder, device="cpu")


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    """An empty folder and one that is not there say what to type."""
    with pytest.raises(ModelUnavailable, match="nor one GGUF"):
        LocalModel(tmp_path)
    with pytest.raises(ModelUnavailable, match="hf download"):
        LocalModel(tmp_path / "nowhere")


def test_a_name_without_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not in the cache, with no network, ends soon and says what to type."""

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(ModelUnavailable, match="hf download nobody/no-such-model"):
        LocalModel("nobody/no-such-model")


def test_a_broken_gguf_file_is_told(tmp_path: Path) -> None:
    """A GGUF file is taken by its path or by its folder; one that is none is an error of ours."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but no more")
    for given in (path, tmp_path):
        with pytest.raises(ModelUnavailable, match="cannot load it"):
            LocalModel(given, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "nowhere:0"])
def test_a_device_that_is_none_is_told(device: str) -> None:
    """A name that torch does not know is refused with those that it does."""
    with pytest.raises(BadInput, match="take 'cpu'"):
        LocalModel(tiny.network("llama"), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
def test_a_device_that_is_not_here_is_told(tmp_path: Path) -> None:
    """Where torch has no CUDA, a model for it is refused, with what to do; of files as of memory."""
    with pytest.raises(BadInput, match="take another"):
        LocalModel(tiny.network("llama"), device="cuda")
    tiny.network("llama").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="take another"):
        LocalModel(tmp_path, device="cuda")


def test_a_tokenizer_by_name_is_refused() -> None:
    """A tokenizer is an object, told at once."""
    with pytest.raises(BadInput, match="from_pretrained"):
        LocalModel(tiny.network("llama"), tokenizer="folder")


def test_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    """A folder without some of the weights is refused: nothing is ever made up for them."""
    tiny.network("llama").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    lost = next(name for name in whole if "layers.1." in name)
    save_file({name: tensor for name, tensor in whole.items() if name != lost}, file, {"format": "pt"})
    with pytest.raises(ModelUnavailable, match=re.escape(lost)):
        LocalModel(tmp_path)


def test_an_encoder_is_no_language_model() -> None:
    """A sentence model has no head that says what follows."""
    with pytest.raises(ModelUnavailable, match="no causal language model"):
        LocalModel(minilm_folder())
