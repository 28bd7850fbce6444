"""The fused generator's model: a vision tower, an evidence encoder and a decoder, with a fusion
between them.

It is a PreTrainedModel that Transformers takes for an encoder-decoder, so that `generate`, beams,
sampling, `save_pretrained` and `from_pretrained` are Transformers' own. Towers are optional: states
made elsewhere (the starter's backbones run in ONNX Runtime) are taken as they are. Knows no
knowledge base and no tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import Seq2SeqLMOutput

from ravlm.encoders.starter import efficientnet
from ravlm.encoders.vision_text_dual import drop_pooler
from ravlm.errors import InvalidInput
from ravlm.fusion.build import FUSIONS, checked_fusion
from ravlm.fusion.cross_attention import gate_cross_attention
from ravlm.fusion.decoder import DecoderConfig, EvidenceDecoder, MixingLayer
from ravlm.fusion.inputs import FusionInputs

_FIRST_SCALE = 20.0
"""What cosines are multiplied by before the softmax that makes log p(z|x); learnt from there."""


_NOTHING = -1e4
"""The logit of an entry that is not there: finite, so that gradients are numbers."""
_SOURCES = (
    "pixel_values", "picture_states", "evidence_states", "evidence_ids", "evidence_mask", "evidence_pixel_values",
    "evidence_scores",
)  # fmt: skip


class CaptionerConfig(PreTrainedConfig):
    """The model's shape. `decoder`, `vision` and `text` are configurations of Transformers (or
    DecoderConfig) as mappings; without `vision` or `text` the states come ready-made,
    `picture_width` and `evidence_width` wide."""

    model_type = "ravlm-fused"
    has_no_defaults_at_init = True

    decoder: dict | None = None
    vision: dict | None = None
    text: dict | None = None
    fusion: str = "cross_attention"
    picture_width: int = 0
    evidence_width: int = 0
    evidence_picture_tokens: int = 4
    """Tokens that a picture of the evidence becomes."""
    most_entries: int = 16
    """Entries beyond this many share the last place's embedding."""
    picture_stage: bool = False
    """Whether the last stage of the starter's image network is a part of this model: states of
    pictures are then what it reads, a square grid (n, places, 208)."""
    picture_places: int = 0
    """Places of a grid made elsewhere, which carry no position yet; 0 for a tower of
    Transformers."""
    mixing_layers: int = 0
    """Transformer layers over picture and evidence together, before the decoder."""
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The decoder's configuration: caches are made by it."""
        return decoder_config(self) if self.decoder else self


def decoder_config(config: CaptionerConfig) -> PreTrainedConfig:
    """The decoder's own configuration."""
    given = dict(config.decoder or {})
    if given.get("model_type") == DecoderConfig.model_type:
        return DecoderConfig(**given)
    return AutoConfig.for_model(**given)


class SourcesEncoder(nn.Module):
    """Picture and evidence as states of the decoder's width, marked with what they are and which
    entry's."""

    main_input_name = "pixel_values"

    def __init__(self, config: CaptionerConfig, width: int) -> None:
        super().__init__()
        self.config, self._width = config, width
        self.vision, self.text = _tower(config.vision), _tower(config.text)
        self.embedded: Callable[[], nn.Module] | None = None
        """Gives the decoder's own embeddings: how evidence is read where there is no text tower."""
        network = efficientnet.EfficientNetLite2() if config.picture_stage else None
        self.stage = efficientnet.LastStage(network) if network is not None else None
        self.picture_in = _into(config.picture_width, width)
        self.evidence_in = _into(config.evidence_width, width)
        self.kinds = nn.Embedding(3, width)  # picture, text of an entry, picture of an entry
        apart = config.fusion.startswith("marginal")  # an entry read apart has no rank
        self.ranks = None if apart else nn.Embedding(config.most_entries, width)
        self.places = nn.Embedding(config.picture_places, width) if config.picture_places else None
        heads = max(1, width // 64)
        self.mixing = nn.ModuleList(MixingLayer(width, heads) for _ in range(config.mixing_layers))
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE).log())

    def forward(
        self,
        pixel_values: Tensor | None = None,
        picture_states: Tensor | None = None,
        evidence_states: Tensor | None = None,
        evidence_ids: Tensor | None = None,
        evidence_mask: Tensor | None = None,
        evidence_pixel_values: Tensor | None = None,
        evidence_scores: Tensor | None = None,
        **_: Any,
    ) -> FusionInputs:
        """A picture as pixels (n, 3, h, w) or as states (n, p, width), and k entries of evidence:
        their texts as tokens (n, k, l) or as states of these (n, k, l, width), which of them count
        (n, k, l), their pictures (n, k, 3, h, w), and their scores (n, k; cosines, -inf where there
        is none)."""
        picture = self._picture(pixel_values, picture_states, evidence_states, evidence_ids)
        evidence, mask = self._evidence(
            evidence_states, evidence_ids, evidence_mask, evidence_pixel_values
        )
        prior = (
            None if evidence is None or evidence_scores is None else self._prior(evidence_scores)
        )
        if evidence is not None and mask is not None and self.config.fusion == "cross_attention":
            evidence, mask = without_gaps(evidence, mask)
        sources = FusionInputs(picture, evidence, mask, prior)
        return self._mixed(sources) if len(self.mixing) else sources

    def _prior(self, scores: Tensor) -> Tensor:
        """log p(z|x) (n, k) from cosines, -inf where there is no entry."""
        there = scores.isfinite()
        return F.log_softmax(
            (scores.masked_fill(~there, 0) * self.scale.exp()).masked_fill(~there, _NOTHING), dim=-1
        )

    def _picture(
        self, pixels: Tensor | None, states: Tensor | None, *others: Tensor | None
    ) -> Tensor:
        if pixels is not None:
            if self.vision is None:
                raise InvalidInput(
                    "This generator has no vision tower; give picture_states instead of pixel_values."
                )
            states = self.vision(pixel_values=pixels).last_hidden_state
            states = (
                states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
            )  # (n, c, h, w) of a CNN
        if states is None:
            there = next((other for other in others if other is not None), None)
            if there is None:
                raise InvalidInput(
                    "There is neither a picture nor evidence; give pixel_values or picture_states."
                )
            return self.kinds.weight.new_zeros((there.shape[0], 0, self._width))
        if self.stage is not None:
            edge = math.isqrt(states.shape[1])
            trunk = states.to(self.kinds.weight.dtype).transpose(1, 2).unflatten(2, (edge, edge))
            states = self.stage.grid(trunk).flatten(2).transpose(1, 2)
        picture = self.picture_in(states.to(self.kinds.weight.dtype)) + self.kinds.weight[0]
        return picture if self.places is None else picture + self.places.weight[: picture.shape[1]]

    def _evidence(
        self, states: Tensor | None, ids: Tensor | None, mask: Tensor | None, pixels: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if states is None and ids is not None:
            states = self._read(ids, mask)
        parts, masks = [], []
        if pixels is not None:
            shown = self._picture(pixels.flatten(0, 1), None).unflatten(0, pixels.shape[:2])
            tokens = F.adaptive_avg_pool1d(
                shown.flatten(0, 1).transpose(1, 2), self.config.evidence_picture_tokens
            )
            parts.append(
                tokens.transpose(1, 2).unflatten(0, pixels.shape[:2]) + self.kinds.weight[2]
            )
            masks.append(torch.ones(parts[0].shape[:3], dtype=torch.bool, device=pixels.device))
        if states is not None and states.shape[1]:
            parts.append(
                self.evidence_in(states.to(self.kinds.weight.dtype)) + self.kinds.weight[1]
            )
            masks.append(
                states.new_ones(states.shape[:3], dtype=torch.bool) if mask is None else mask.bool()
            )
        if not parts:
            return None, None
        evidence = torch.cat(parts, dim=2)
        if self.ranks is not None:
            rank = torch.arange(evidence.shape[1], device=evidence.device).clamp(
                max=self.config.most_entries - 1
            )
            evidence = evidence + self.ranks(rank)[None, :, None]
        return evidence, torch.cat(masks, dim=2)

    def _read(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """The evidence's tokens (n, k, l) through the text tower, which stays as it is, or the
        decoder's embeddings."""
        if self.text is None:
            if self.embedded is None or self.config.evidence_width:
                raise InvalidInput(
                    "This generator has no text tower; give evidence_states instead of evidence_ids."
                )
            return self.embedded()(ids)
        there = torch.ones_like(ids) if mask is None else mask.long()
        with torch.no_grad():
            states = self.text(
                input_ids=ids.flatten(0, 1), attention_mask=there.flatten(0, 1)
            ).last_hidden_state
        return states.unflatten(0, ids.shape[:2])

    def _mixed(self, sources: FusionInputs) -> FusionInputs:
        states, there = sources.flat()
        for layer in self.mixing:
            states = layer(states, None if there is None else there[:, None, None, :])
        p = sources.picture.shape[1]
        evidence = (
            None if sources.evidence is None else states[:, p:].reshape(sources.evidence.shape)
        )
        return FusionInputs(states[:, :p], evidence, sources.mask, sources.prior)


def without_gaps(evidence: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence (n, k, l, d) whose tokens carry their entry's rank already, as one entry (n, 1,
    longest, d) without the places between the entries where nothing is, and its mask."""
    there = mask.flatten(1)
    longest = int(there.sum(1).max())
    kept = there.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    states = evidence.flatten(1, 2).gather(1, kept[..., None].expand(-1, -1, evidence.shape[-1]))
    return states[:, None], there.gather(1, kept)[:, None]


class CaptionerModel(PreTrainedModel, GenerationMixin):
    """Words from a picture and evidence."""

    config: CaptionerConfig
    config_class = CaptionerConfig
    base_model_prefix = "fused"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__(config)
        checked_fusion(config.fusion)
        if config.mixing_layers and config.fusion.startswith("marginal"):
            raise InvalidInput(
                f"mixing_layers is {config.mixing_layers} and the fusion is {config.fusion}; entries that are read "
                "apart can't be mixed before, so mixing_layers=0 is needed."
            )
        own = decoder_config(config)
        if isinstance(own, DecoderConfig):
            decoder: Any = EvidenceDecoder(own)
        else:
            decoder = AutoModelForCausalLM.from_config(own)
            if not config.fusion.endswith("prompt"):
                gate_cross_attention(decoder)
        self.encoder = SourcesEncoder(config, own.hidden_size)
        self.decoder = decoder
        self.encoder.embedded = decoder.get_input_embeddings
        self._fuse = FUSIONS[config.fusion](decoder)
        self._shares = config.fusion == "cross_attention" and isinstance(own, DecoderConfig)
        self.post_init()

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        return self.encoder

    def get_decoder(self) -> nn.Module:
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.decoder.get_output_embeddings()

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: FusionInputs | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        **sources: Any,
    ) -> Seq2SeqLMOutput:
        """Logits after each word, and with `labels` (n, t; -100 counts nowhere) the loss of them. n
        is the number of pictures, or a multiple: neighbouring rows then share a picture. `sources`:
        see `SourcesEncoder`."""
        smoothing = sources.pop("label_smoothing", 0.0)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(pixel_values=pixel_values, **sources)
        if decoder_input_ids is None:
            if labels is None:
                raise InvalidInput(
                    "There are no labels and no decoder_input_ids; give one of them, or call generate."
                )
            decoder_input_ids = self.shifted(labels)
        if labels is not None:
            return Seq2SeqLMOutput(
                loss=self._fuse.loss(decoder_input_ids, labels, encoder_outputs, smoothing)
            )
        said = self._fuse(
            decoder_input_ids, decoder_attention_mask, encoder_outputs, past_key_values, use_cache
        )
        return Seq2SeqLMOutput(logits=said.logits, past_key_values=said.cache)

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **options: Any) -> Any:
        """Transformers' `generate`; `inputs` or `pixel_values` and the other sources as in
        `SourcesEncoder`."""
        if options.get("encoder_outputs") is None:
            given = {name: options.pop(name) for name in _SOURCES if name in options}
            if inputs is not None:
                given["pixel_values"] = inputs
            options["encoder_outputs"] = self.encoder(**given)
        return super().generate(**options)

    def _expand_inputs_for_generation(
        self, *args: Any, **options: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Transformers repeats all inputs for beams and samples. Here those of one picture share
        its states."""
        if not self._shares:
            return super()._expand_inputs_for_generation(*args, **options)
        shared = options.pop("encoder_outputs")
        ids, given = super()._expand_inputs_for_generation(
            *args, **{**options, "is_encoder_decoder": False}
        )
        return ids, {**given, "encoder_outputs": shared}

    def _reorder_cache(self, cache: Any, beams: Tensor) -> Any:
        """What the words look at is the same for all beams of a picture: only what was said is put
        in order."""
        (cache.self_attention_cache if self._shares else cache).reorder_cache(beams)
        return cache

    def shifted(self, labels: Tensor) -> Tensor:
        """The words (n, t) after which `labels` (n, t) come: the start, then all but the last."""
        start = self.generation_config.decoder_start_token_id
        words = labels.masked_fill(labels == -100, self.generation_config.pad_token_id)
        return torch.cat([words.new_full((len(words), 1), start), words[:, :-1]], dim=1)


def _tower(config: dict[str, Any] | None) -> Any:
    """A tower of Transformers with random weights, without a pooler: only its states are used."""
    if config is None:
        return None
    tower = AutoModel.from_config(AutoConfig.for_model(**config))
    drop_pooler(tower)
    return tower


def _into(given: int, width: int) -> nn.Module:
    """States of another width into the decoder's; those of the same width as they are, normed."""
    return nn.Sequential(nn.LayerNorm(given), nn.Linear(given, width)) if given else nn.Identity()
