"""The captioner's encoder: an image and its evidence as states of the decoder's width."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig

from ravlm.encoders.starter import efficientnet_torch
from ravlm.encoders.transformers_io import encoder_class
from ravlm.encoders.vision_text_dual import drop_pooler, keep_patch_order
from ravlm.errors import InvalidInput
from ravlm.fusion import fusion_class
from ravlm.fusion.decoder import MixingLayer
from ravlm.fusion.inputs import FusionInputs
from ravlm.generation.captioner.configuration import CaptionerConfig

_INITIAL_SCALE = 20.0
"""Cosines are multiplied by this before the softmax that gives log p(z|x); learned from there."""
_MISSING_ENTRY = -1e4
"""The logit of a missing entry: finite, so that gradients are numbers."""
_IMAGE, _ENTRY_TEXT, _ENTRY_IMAGE = range(3)
"""Rows of the type embeddings."""


class InputEncoder(nn.Module):
    """Encode an image and k entries of evidence, marked with their type and their rank."""

    main_input_name = "pixel_values"

    def __init__(self, config: CaptionerConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.width = width
        self.vision = _tower(config.vision)
        self.text = _tower(config.text)
        self.decoder_embeddings: Callable[[], nn.Module] | None = None
        """Returns the decoder's input embeddings, which read evidence if there is no text tower."""
        network = efficientnet_torch.EfficientNetLite2() if config.image_stage else None
        self.image_stage = efficientnet_torch.LastStage(network) if network is not None else None
        self.image_projection = _projection(config.image_width, width)
        self.evidence_projection = _projection(config.evidence_width, width)
        self.type_embeddings = nn.Embedding(3, width)
        self._fusion = fusion_class(config.fusion)
        is_ranked = not self._fusion.reads_entries_separately
        self.rank_embeddings = nn.Embedding(config.max_entries, width) if is_ranked else None
        positions = config.image_positions
        self.position_embeddings = nn.Embedding(positions, width) if positions else None
        num_heads = max(1, width // 64)
        self.mixing_layers = nn.ModuleList(
            MixingLayer(width, num_heads) for _ in range(config.mixing_layers)
        )
        self.logit_scale = nn.Parameter(torch.tensor(_INITIAL_SCALE).log())

    def forward(
        self,
        pixel_values: Tensor | None = None,
        image_states: Tensor | None = None,
        evidence_states: Tensor | None = None,
        evidence_ids: Tensor | None = None,
        evidence_mask: Tensor | None = None,
        evidence_pixel_values: Tensor | None = None,
        evidence_scores: Tensor | None = None,
        **_: Any,
    ) -> FusionInputs:
        """Encode n images with k entries each.

        The image is `pixel_values` (n, 3, h, w) or `image_states` (n, p, image_width). Texts of
        the entries are `evidence_ids` (n, k, l) or `evidence_states` (n, k, l, evidence_width),
        masked by `evidence_mask` (n, k, l); their images are `evidence_pixel_values`
        (n, k, 3, h, w). `evidence_scores` (n, k) are cosines, -inf for a missing entry."""
        if pixel_values is None and image_states is None:
            image = self._no_image(evidence_states, evidence_ids)
        else:
            image = self._encode_image(pixel_values, image_states)
        if evidence_states is None and evidence_ids is not None:
            evidence_states = self._encode_text(evidence_ids, evidence_mask)
        evidence, mask = self._encode_evidence(
            evidence_states, evidence_mask, evidence_pixel_values
        )
        log_prior = None
        if evidence is not None and evidence_scores is not None:
            log_prior = self._log_prior(evidence_scores)
        if evidence is not None and mask is not None and self._fusion.packs_evidence:
            evidence, mask = pack_entries(evidence, mask)
        inputs = FusionInputs(image, evidence, mask, log_prior)
        return self._mix(inputs) if len(self.mixing_layers) else inputs

    def _encode_image(self, pixels: Tensor | None, states: Tensor | None) -> Tensor:
        """Return states (n, p, d) of images, given as pixels or as states."""
        if pixels is not None:
            if self.vision is None:
                raise InvalidInput(
                    "This generator has no vision tower; pass image_states instead of pixel_values."
                )
            states = self.vision(pixel_values=pixels).last_hidden_state
            if states.ndim == 4:
                states = states.flatten(2).transpose(1, 2)  # (n, c, h, w) of a CNN -> (n, h w, c)
        assert states is not None
        if self.image_stage is not None:
            edge = math.isqrt(states.shape[1])
            grid = states.to(self._dtype).transpose(1, 2).unflatten(2, (edge, edge))
            states = self.image_stage.grid(grid).flatten(2).transpose(1, 2)  # (n, p, 1280)
        image = self.image_projection(states.to(self._dtype)) + self.type_embeddings.weight[_IMAGE]
        if self.position_embeddings is None:
            return image
        return image + self.position_embeddings.weight[: image.shape[1]]

    def _no_image(self, *evidence: Tensor | None) -> Tensor:
        """Return empty image states (n, 0, d), n taken from the evidence."""
        num_rows = next((len(tensor) for tensor in evidence if tensor is not None), None)
        if num_rows is None:
            raise InvalidInput(
                "There is neither an image nor evidence; pass pixel_values or image_states."
            )
        return self.type_embeddings.weight.new_zeros((num_rows, 0, self.width))

    def _encode_text(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Return states (n, k, l, width) of the evidence's tokens (n, k, l).

        They come from the text tower, which is frozen, or are the decoder's embeddings."""
        if self.text is None:
            if self.decoder_embeddings is None or self.config.evidence_width:
                raise InvalidInput(
                    "This generator has no text tower; pass evidence_states instead of "
                    "evidence_ids."
                )
            return self.decoder_embeddings()(ids)
        mask = torch.ones_like(ids) if mask is None else mask.long()
        with torch.no_grad():
            output = self.text(input_ids=ids.flatten(0, 1), attention_mask=mask.flatten(0, 1))
        return output.last_hidden_state.unflatten(0, ids.shape[:2])

    def _encode_evidence(
        self, states: Tensor | None, mask: Tensor | None, pixels: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the evidence's states (n, k, l, d) and mask (n, k, l): images, then texts."""
        parts, masks = [], []
        if pixels is not None:
            parts.append(self._encode_entry_images(pixels))
            masks.append(torch.ones(parts[0].shape[:3], dtype=torch.bool, device=pixels.device))
        if states is not None and states.shape[1]:
            projected = self.evidence_projection(states.to(self._dtype))
            parts.append(projected + self.type_embeddings.weight[_ENTRY_TEXT])
            all_tokens = states.new_ones(states.shape[:3], dtype=torch.bool)
            masks.append(all_tokens if mask is None else mask.bool())
        if not parts:
            return None, None
        evidence = torch.cat(parts, dim=2)
        if self.rank_embeddings is not None:
            ranks = torch.arange(evidence.shape[1], device=evidence.device)
            ranks = ranks.clamp(max=self.config.max_entries - 1)
            evidence = evidence + self.rank_embeddings(ranks)[None, :, None]
        return evidence, torch.cat(masks, dim=2)

    def _encode_entry_images(self, pixels: Tensor) -> Tensor:
        """Return states (n, k, tokens, d) of the entries' images (n, k, 3, h, w)."""
        states = self._encode_image(pixels.flatten(0, 1), None).transpose(1, 2)  # (n k, d, p)
        pooled = F.adaptive_avg_pool1d(states, self.config.evidence_image_tokens)
        states = pooled.transpose(1, 2).unflatten(0, pixels.shape[:2])
        return states + self.type_embeddings.weight[_ENTRY_IMAGE]

    def _log_prior(self, scores: Tensor) -> Tensor:
        """Return log p(z|x) (n, k) from cosines, -inf for a missing entry."""
        is_entry = scores.isfinite()
        logits = scores.masked_fill(~is_entry, 0) * self.logit_scale.exp()
        return F.log_softmax(logits.masked_fill(~is_entry, _MISSING_ENTRY), dim=-1)

    def _mix(self, inputs: FusionInputs) -> FusionInputs:
        """Let image and evidence attend to each other."""
        states, mask = inputs.joined()
        for layer in self.mixing_layers:
            states = layer(states, None if mask is None else mask[:, None, None, :])
        p = inputs.image_states.shape[1]
        evidence = inputs.evidence_states
        if evidence is not None:
            evidence = states[:, p:].reshape(evidence.shape)
        return FusionInputs(states[:, :p], evidence, inputs.evidence_mask, inputs.log_prior)

    @property
    def _dtype(self) -> torch.dtype:
        return self.type_embeddings.weight.dtype


def pack_entries(evidence: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Join the entries of each row to one sequence without padding between them.

    `evidence` (n, k, l, d) and `mask` (n, k, l) become (n, 1, max_length, d) and
    (n, 1, max_length); the states carry the rank of their entry already."""
    token_mask = mask.flatten(1)  # (n, k l)
    max_length = int(token_mask.sum(1).max())
    order = token_mask.int().argsort(dim=1, descending=True, stable=True)[:, :max_length]
    indices = order[..., None].expand(-1, -1, evidence.shape[-1])
    states = evidence.flatten(1, 2).gather(1, indices)
    return states[:, None], token_mask.gather(1, order)[:, None]


def _tower(config: dict[str, Any] | None) -> Any:
    """Return a Transformers tower with random weights, without a pooler: only its states count."""
    if config is None:
        return None
    tower_config = AutoConfig.for_model(**config)
    tower = encoder_class(tower_config).from_config(tower_config)
    drop_pooler(tower)
    keep_patch_order(tower)
    return tower


def _projection(input_width: int, width: int) -> nn.Module:
    """Return a layer from `input_width` to `width`; the identity if there is no input."""
    if not input_width:
        return nn.Identity()
    return nn.Sequential(nn.LayerNorm(input_width), nn.Linear(input_width, width))
