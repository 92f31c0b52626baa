"""Makes `tests/models/tiny`: a random BERT of one layer in both formats that `SentenceEmbedder` reads.

The folder is committed, so that the tests need no exporter. To make it again:
`pip install onnx onnxscript`, then `python -m tests.models.make_tiny`.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

TINY = Path(__file__).parent / "tiny"
DIM = 16
MAX_LENGTH = 24


class HiddenStates(torch.nn.Module):  # type: ignore[misc]  # -- torch is not followed, so Any
    """The graph as sentence-transformers publishes it: one output, no pooling."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Return the hidden states, (B, L, D)."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return output.last_hidden_state


def tokenizer() -> Tokenizer:
    """Return a lower-casing WordPiece tokenizer that knows the alphabet."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_truncation(8)  # like the published files, the saved settings are not the model's own
    made.enable_padding(length=8)
    return made


def write(name: str, value: object) -> None:
    """Write one JSON file of the folder."""
    path = TINY / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Write the folder."""
    torch.manual_seed(7)
    words = tokenizer()
    config = BertConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=DIM,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(TINY)
    words.save(str(TINY / "tokenizer.json"))
    write("sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})
    write("1_Pooling/config.json", {"word_embedding_dimension": DIM, "pooling_mode_mean_tokens": True})
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    write("modules.json", modules)
    (TINY / "onnx").mkdir(exist_ok=True)
    ids = torch.randint(4, 40, (2, 9))
    names = ("input_ids", "attention_mask", "token_type_ids", "last_hidden_state")
    torch.onnx.export(
        HiddenStates(model),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        str(TINY / "onnx" / "model.onnx"),
        input_names=list(names[:3]),
        output_names=list(names[3:]),
        dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
