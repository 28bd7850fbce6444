"""Tiny causal language models, written as `save_pretrained` does."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import encoder_checkpoints as parts
from tests.helpers.chat_checkpoints import tokenizer

WIDTH = 32


def gpt2(folder: Path) -> Path:
    """GPT-2 with a tokenizer of bytes that knows an end and no beginning."""
    from transformers import GPT2Config, GPT2LMHeadModel

    words = tokenizer(["<|endoftext|>"])
    config = GPT2Config(vocab_size=len(words), n_embd=WIDTH, n_layer=2, n_head=2, n_positions=96)
    for part in (parts.randomize(GPT2LMHeadModel(config)), words):
        part.save_pretrained(folder)
    return folder


def llama(folder: Path) -> Path:
    """Llama, which has no cross-attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(["<pad>", "<s>", "</s>"], bos_token="<s>")
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=200,
    )
    for part in (parts.randomize(LlamaForCausalLM(config)), words):
        part.save_pretrained(folder)
    return folder
