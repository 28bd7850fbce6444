"""Our own decoder: a small language model that looks at a picture, and at evidence through a gate.

Each layer: the words so far, the picture, the evidence (times tanh of a gate that begins at 0, so
that without evidence and at the beginning of training the model is the closed book), a feed-forward
net. Embeddings are tied. After "Attention Is All You Need" (Vaswani et al., 2017) and "Flamingo"
(Alayrac et al., 2022: gated cross-attention)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions


class DecoderConfig(PreTrainedConfig):
    """The decoder's shape."""

    model_type = "ravlm-decoder"

    vocab_size: int = 4000
    hidden_size: int = 256
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    max_position_embeddings: int = 128
    initializer_range: float = 0.02
    is_decoder: bool = True
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 0


class Attention(nn.Module):
    """Multi-head attention; over the words themselves, or over given states."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (n, s, d) as keys and values (n, heads, s, d / heads)."""
        return self._split(self.key(states)), self._split(self.value(states))

    def forward(self, words: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Words (n, t, d) look at keys of n rows, or of fewer rows that n is a multiple of: then
        neighbouring words' rows share one, and it is not repeated. `mask` (rows, 1, 1 or t, s),
        True where one may look."""
        n, t, d = words.shape
        rows = keys.shape[0]
        queries = self._split(self.query(words).reshape(rows, n // rows * t, d))
        if (
            mask is not None
        ):  # a softmax over nothing is not a number; what it sees then counts nowhere
            mask = mask | ~mask.any(-1, keepdim=True)
        seen = attend(queries, keys, values, mask)
        return self.out(seen.transpose(1, 2).reshape(n, t, d))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k / sqrt(width)) v for queries (n, heads, t, width) and keys (n, heads, s, width);
    `mask`: where one may look. Written out where gradients are wanted of a CPU: the fused kernel's
    backward took six times as long there."""
    if queries.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).to(values.dtype) @ values


class MixingLayer(nn.Module):
    """States (n, s, d) that look at each other, then a feed-forward net; `mask` (n, 1, 1, s)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.own = Attention(width, heads)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norms[0](states)
        states = states + self.own(normed, *self.own.keys_values(normed), mask)
        return states + self.feed(self.norms[1](states))


class Layer(nn.Module):
    """One layer of the decoder."""

    def __init__(self, width: int, heads: int, index: int) -> None:
        super().__init__()
        self.index = index
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.own, self.picture, self.evidence = (Attention(width, heads) for _ in range(3))
        self.gate = nn.Parameter(torch.zeros(1))
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, words: Tensor, mask: Tensor | None, looked: AttentionInputs) -> Tensor:
        normed = self.norms[0](words)
        keys, values = self.own.keys_values(normed)
        if looked.cache is not None:
            keys, values = looked.cache.self_attention_cache.update(keys, values, self.index)
        words = words + self.own(normed, keys, values, mask)
        if looked.picture is not None:
            keys, values = looked.kept(self.picture, looked.picture, 2 * self.index)
            words = words + self.picture(self.norms[1](words), keys, values, looked.picture_mask)
        if looked.evidence is not None:
            keys, values = looked.kept(self.evidence, looked.evidence, 2 * self.index + 1)
            seen = self.evidence(self.norms[2](words), keys, values, looked.evidence_mask)
            words = words + torch.tanh(self.gate) * looked.where_evidence(seen)
        return words + self.feed(self.norms[3](words))


class AttentionInputs:
    """What the layers look at, and the cache in which its keys and values are kept from word to
    word."""

    def __init__(
        self,
        picture: Tensor | None,
        picture_mask: Tensor | None,
        evidence: Tensor | None,
        evidence_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
    ) -> None:
        self.picture, self.evidence, self.cache = picture, evidence, cache
        self.picture_mask = None if picture_mask is None else picture_mask[:, None, None, :].bool()
        self.evidence_mask = (
            None if evidence_mask is None else evidence_mask[:, None, None, :].bool()
        )

    def where_evidence(self, seen: Tensor) -> Tensor:
        """What was seen (n, t, d) in the evidence, 0 in rows that have none."""
        if self.evidence_mask is None:
            return seen
        there = self.evidence_mask.any(-1)[:, :, 0, None]  # (rows, 1, 1)
        return seen * there.repeat_interleave(seen.shape[0] // there.shape[0], 0)

    def kept(self, attention: Attention, states: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """Keys and values of `states`, from the cache's `place` where they are."""
        if self.cache is None:
            return attention.keys_values(states)
        if self.cache.is_updated.get(place):
            layer = self.cache.cross_attention_cache.layers[place]
            return layer.keys, layer.values
        layers = self.cache.cross_attention_cache.layers
        layers.extend(
            DynamicLayer() for _ in range(place + 1 - len(layers))
        )  # two places a layer of the decoder
        self.cache.is_updated[place] = True
        return self.cache.cross_attention_cache.update(*attention.keys_values(states), place)


class EvidenceDecoder(PreTrainedModel, GenerationMixin):
    """A causal language model that can look at a picture and at evidence."""

    config: DecoderConfig
    config_class = DecoderConfig
    base_model_prefix = "decoder"
    _tied_weights_keys: ClassVar[dict[str, str]] = {"head.weight": "embeddings.weight"}
    _supports_sdpa = True

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embeddings = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.max_position_embeddings, width)
        layers = [
            Layer(width, config.num_attention_heads, i) for i in range(config.num_hidden_layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings = value

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        **looked_at: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """Logits (n, t, vocabulary) after words (n, t).

        `looked_at`: `encoder_hidden_states` (the picture; m rows that n is a multiple of),
        `encoder_attention_mask`, `evidence_hidden_states`, `evidence_attention_mask`. `labels` (n,
        t) are the words themselves, -100 where none counts: the loss is that of the next one."""
        words = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values
        if use_cache and not isinstance(cache, EncoderDecoderCache):
            cache = EncoderDecoderCache(DynamicCache() if cache is None else cache, DynamicCache())
        past = 0 if cache is None else cache.get_seq_length()
        positions, mask = self._seen(attention_mask, past, words)
        words = words + self.positions(positions)
        looked = AttentionInputs(
            looked_at.get("encoder_hidden_states"),
            looked_at.get("encoder_attention_mask"),
            looked_at.get("evidence_hidden_states"),
            looked_at.get("evidence_attention_mask"),
            cache,
        )
        for layer in self.layers:
            words = layer(words, mask, looked)
        logits = self.head(self.norm(words))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100
            )
        return CausalLMOutputWithCrossAttentions(loss=loss, logits=logits, past_key_values=cache)

    def _seen(
        self, attention_mask: Tensor | None, past: int, words: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Positions (n or 1, t), and which words each may look at (n or 1, 1, t, past + t); None
        for one word alone."""
        t = words.shape[1]
        whole = torch.ones((t, past + t), dtype=torch.bool, device=words.device).tril(past)[
            None, None
        ]
        if attention_mask is None or bool(attention_mask.all()):
            positions = torch.arange(past, past + t, device=words.device)[None]
            return positions, None if t == 1 else whole
        there = attention_mask.bool()
        positions = (there.cumsum(1) - 1).clamp(min=0)[:, -t:]
        # a padded place looks at itself, else its softmax is over nothing
        itself = torch.eye(past + t, dtype=torch.bool, device=words.device)[past:][None, None]
        return positions, (whole & there[:, None, None, :]) | itself
