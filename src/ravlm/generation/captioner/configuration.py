"""The shape of the captioner's model, and the keys of configurations that were saved earlier."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from ravlm.fusion.decoder import DecoderConfig

_OLD_KEYS = {
    "picture_width": "image_width",
    "picture_places": "image_positions",
    "picture_stage": "image_stage",
    "most_entries": "max_entries",
    "evidence_picture_tokens": "evidence_image_tokens",
}
_OLD_FUSIONS = {"prompt": "prefix", "marginal_prompt": "marginal_prefix"}
OLD_WEIGHTS = {
    r"\.own\.": ".self_attention.",
    r"\.feed\.": ".feed_forward.",
    r"(layers\.\d+)\.picture\.": r"\1.image_attention.",
    r"(layers\.\d+)\.evidence\.": r"\1.evidence_attention.",
    r"^encoder\.picture_in\.": "encoder.image_projection.",
    r"^encoder\.evidence_in\.": "encoder.evidence_projection.",
    r"^encoder\.kinds\.": "encoder.type_embeddings.",
    r"^encoder\.ranks\.": "encoder.rank_embeddings.",
    r"^encoder\.places\.": "encoder.position_embeddings.",
    r"^encoder\.mixing\.": "encoder.mixing_layers.",
    r"^encoder\.stage\.": "encoder.image_stage.",
    r"^encoder\.scale$": "encoder.logit_scale",
}
"""Names of weights in files that were saved earlier, the starter's among them -> today's names."""


class CaptionerConfig(PreTrainedConfig):
    """The shape of a `CaptionerModel`.

    `decoder`, `vision` and `text` are Transformers configurations (or a DecoderConfig) as mappings.
    Without `vision` or `text` the model takes states that were computed elsewhere, `image_width`
    and `evidence_width` wide."""

    model_type = "ravlm-fused"
    has_no_defaults_at_init = True

    decoder: dict | None = None
    vision: dict | None = None
    text: dict | None = None
    fusion: str = "cross_attention"
    """A key of `ravlm.fusion.FUSIONS`."""
    image_width: int = 0
    evidence_width: int = 0
    evidence_image_tokens: int = 4
    """Tokens per image of the evidence."""
    max_entries: int = 16
    """Number of rank embeddings; entries beyond it share the last one."""
    image_stage: bool = False
    """Whether the last stage of the starter's image network is part of this model; it then takes
    that stage's input as image states, a square grid (n, positions, 208)."""
    image_positions: int = 0
    """Position embeddings for image states computed elsewhere, which carry no position yet; 0 for
    a Transformers tower."""
    mixing_layers: int = 0
    """Transformer layers over image and evidence together, before the decoder."""
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a saved configuration, one with earlier names included."""
        values = {_OLD_KEYS.get(key, key): value for key, value in config_dict.items()}
        if "fusion" in values:
            values["fusion"] = _OLD_FUSIONS.get(values["fusion"], values["fusion"])
        return super().from_dict(values, **kwargs)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """Return the decoder's configuration: Transformers makes caches from it."""
        return decoder_config(self) if self.decoder else self


def decoder_config(config: CaptionerConfig) -> PreTrainedConfig:
    """Return the decoder's own configuration."""
    values = dict(config.decoder or {})
    if values.get("model_type") == DecoderConfig.model_type:
        return DecoderConfig(**values)
    return AutoConfig.for_model(**values)
