"""Small models of every fusion, and a batch of two unlike pictures with evidence of unlike
length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, GPT2Config, LlamaConfig, PreTrainedConfig

from ravlm.fusion import fusion_class
from ravlm.fusion.decoder import DecoderConfig
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.modeling import CaptionerModel

WORDS, WIDTH, PICTURE, EVIDENCE = 60, 32, 12, 20


def decoder(kind: str, fusion: str) -> PreTrainedConfig:
    """A decoder's configuration, three letters wide."""
    special: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "own":
        return DecoderConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            max_position_embeddings=64,
            **special,
        )
    if kind == "gpt2":
        crossing = fusion_class(fusion).needs_cross_attention
        return GPT2Config(
            vocab_size=WORDS, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=64, add_cross_attention=crossing,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **special,
        )  # fmt: skip
    if kind == "llama":
        return LlamaConfig(
            vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64, **special,
        )  # fmt: skip
    return BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, is_decoder=True, add_cross_attention=True, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, **special,
    )  # fmt: skip


def model(kind: str, fusion: str, **config: Any) -> CaptionerModel:
    """A model with random weights and open gates."""
    torch.manual_seed(0)
    own = decoder(kind, fusion).to_dict()
    made = CaptionerModel(
        CaptionerConfig(
            decoder=own, fusion=fusion, image_width=PICTURE, evidence_width=EVIDENCE, **config
        )
    )
    made.generation_config.update(
        decoder_start_token_id=1, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.8)
            elif parameter.ndim > 1:
                parameter.mul_(6)  # random weights of 0.02 hardly look at anything
    return made.eval()


def batch() -> dict[str, Tensor]:
    """Two pictures; the first has two entries, the second one short one."""
    torch.manual_seed(1)
    mask = torch.ones((2, 2, 5), dtype=torch.bool)
    mask[0, 1, 3:] = False
    mask[1, 0, 2:] = False
    mask[1, 1] = False
    return {
        "image_states": torch.randn(2, 4, PICTURE),
        "evidence_states": torch.randn(2, 2, 5, EVIDENCE),
        "evidence_mask": mask,
        "evidence_scores": torch.tensor([[0.5, 0.45], [0.6, -torch.inf]]),
    }


def words() -> Tensor:
    """Two unlike texts of six words, after the start."""
    torch.manual_seed(2)
    return torch.cat([torch.ones((2, 1), dtype=torch.long), torch.randint(3, WORDS, (2, 5))], dim=1)
