"""Small models of every fusion, and a batch of two different images with evidence of different
lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, GPT2Config, LlamaConfig, PreTrainedConfig

from ravlm.fusion import fusion_class
from ravlm.fusion.decoder import DecoderConfig
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.modeling import CaptionerModel

VOCAB_SIZE, WIDTH, IMAGE_WIDTH, EVIDENCE_WIDTH = 60, 32, 12, 20
_SPECIAL_TOKENS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def decoders_for(fusion: str) -> tuple[str, ...]:
    """Return the decoders that a fusion works with; "own" is ravlm's."""
    last = "bert" if fusion_class(fusion).needs_cross_attention else "llama"
    return ("own", "gpt2", last)


def decoder_config(decoder: str, fusion: str) -> PreTrainedConfig:
    """Return the configuration of a tiny decoder."""
    if decoder == "own":
        return DecoderConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            max_position_embeddings=64,
            **_SPECIAL_TOKENS,
        )
    if decoder == "gpt2":
        return GPT2Config(
            vocab_size=VOCAB_SIZE,
            n_embd=WIDTH,
            n_layer=2,
            n_head=2,
            n_positions=64,
            add_cross_attention=fusion_class(fusion).needs_cross_attention,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **_SPECIAL_TOKENS,
        )
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    if decoder == "llama":
        return LlamaConfig(num_key_value_heads=1, **sizes, **_SPECIAL_TOKENS)
    return BertConfig(
        is_decoder=True,
        add_cross_attention=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **sizes,
        **_SPECIAL_TOKENS,
    )


def small_model(decoder: str, fusion: str, **config: Any) -> CaptionerModel:
    """Return a model with random weights and open gates."""
    torch.manual_seed(0)
    model = CaptionerModel(
        CaptionerConfig(
            decoder=decoder_config(decoder, fusion).to_dict(),
            fusion=fusion,
            image_width=IMAGE_WIDTH,
            evidence_width=EVIDENCE_WIDTH,
            **config,
        )
    )
    model.generation_config.update(decoder_start_token_id=1, **_SPECIAL_TOKENS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.8)
            elif parameter.ndim > 1:
                parameter.mul_(6)  # weights of 0.02 hardly attend to anything
    return model.eval()


def batch() -> dict[str, Tensor]:
    """Return two images; the first has two entries, the second a short one."""
    torch.manual_seed(1)
    mask = torch.ones((2, 2, 5), dtype=torch.bool)
    mask[0, 1, 3:] = False
    mask[1, 0, 2:] = False
    mask[1, 1] = False
    return {
        "image_states": torch.randn(2, 4, IMAGE_WIDTH),
        "evidence_states": torch.randn(2, 2, 5, EVIDENCE_WIDTH),
        "evidence_mask": mask,
        "evidence_scores": torch.tensor([[0.5, 0.45], [0.6, -torch.inf]]),
    }


def token_ids() -> Tensor:
    """Return two different texts of six tokens, the start token included."""
    torch.manual_seed(2)
    ids = torch.randint(3, VOCAB_SIZE, (2, 5))
    return torch.cat([torch.ones((2, 1), dtype=torch.long), ids], dim=1)
