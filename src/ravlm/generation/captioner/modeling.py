"""The captioner's model: an encoder of image and evidence, a fusion and a decoder.

It is a PreTrainedModel that Transformers takes for an encoder-decoder, so `generate`, beams,
sampling, `save_pretrained` and `from_pretrained` are Transformers' own. Towers are optional: states
computed elsewhere (the starter's backbones run in ONNX Runtime) are taken as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import Seq2SeqLMOutput

from ravlm.encoders.hub_files import quiet
from ravlm.errors import BrokenData, InvalidInput
from ravlm.fusion import fusion_class
from ravlm.fusion.cross_attention import gate_cross_attention
from ravlm.fusion.decoder import DecoderConfig, EvidenceDecoder
from ravlm.fusion.inputs import FusionInputs
from ravlm.generation.captioner.configuration import OLD_WEIGHTS, CaptionerConfig, decoder_config
from ravlm.generation.captioner.input_encoder import InputEncoder

_ENCODER_INPUTS = (
    "pixel_values",
    "image_states",
    "evidence_states",
    "evidence_ids",
    "evidence_mask",
    "evidence_pixel_values",
    "evidence_scores",
)


class CaptionerModel(PreTrainedModel, GenerationMixin):
    """Tokens from an image and evidence.

    >>> loss = model(pixel_values=pixels, labels=labels).loss
    >>> ids = model.generate(pixel_values=pixels, max_new_tokens=20)
    """

    config: CaptionerConfig
    config_class = CaptionerConfig
    base_model_prefix = "captioner"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    accepts_loss_kwargs = False
    """The loss is a mean over the batch, not over `num_items_in_batch` of accumulated batches."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__(config)
        fusion = fusion_class(config.fusion)
        if config.mixing_layers and fusion.reads_entries_separately:
            raise InvalidInput(
                f'mixing_layers is {config.mixing_layers}, but the fusion "{config.fusion}" reads '
                "each entry separately; use mixing_layers=0."
            )
        text_config = decoder_config(config)
        decoder = _new_decoder(text_config, fusion.needs_cross_attention)
        # created in this order, so that a seed gives the same weights in every version
        self.encoder = InputEncoder(config, text_config.hidden_size)
        self.decoder = decoder
        self.encoder.decoder_embeddings = decoder.get_input_embeddings
        self.fusion = fusion(decoder)
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
        **inputs: Any,
    ) -> Seq2SeqLMOutput:
        """Return the logits after each token, or the loss of `labels` (n, t; -100 is ignored).

        n is the number of images or a multiple of it: neighboring rows then share an image.
        `inputs` are those of `InputEncoder`, and `label_smoothing`."""
        label_smoothing = inputs.pop("label_smoothing", 0.0)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(pixel_values=pixel_values, **inputs)
        if decoder_input_ids is None:
            if labels is None:
                raise InvalidInput(
                    "There are neither labels nor decoder_input_ids; pass one of them, or call "
                    "generate."
                )
            decoder_input_ids = self.shift_right(labels)
        if labels is not None:
            loss = self.fusion.loss(decoder_input_ids, labels, encoder_outputs, label_smoothing)
            return Seq2SeqLMOutput(loss=loss)
        output = self.fusion(
            decoder_input_ids, decoder_attention_mask, encoder_outputs, past_key_values, use_cache
        )
        return Seq2SeqLMOutput(logits=output.logits, past_key_values=output.cache)

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **options: Any) -> Any:
        """Transformers' `generate`, with the inputs of `InputEncoder` among `options`; `inputs`
        are pixel values."""
        if options.get("encoder_outputs") is None:
            encoder_inputs = {n: options.pop(n) for n in _ENCODER_INPUTS if n in options}
            if inputs is not None:
                encoder_inputs["pixel_values"] = inputs
            options["encoder_outputs"] = self.encoder(**encoder_inputs)
        return super().generate(**options)

    def _expand_inputs_for_generation(
        self, *args: Any, **options: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Repeat the inputs for beams and samples, unless these share the states of an image."""
        if not self.fusion.shares_inputs:
            return super()._expand_inputs_for_generation(*args, **options)
        encoder_outputs = options.pop("encoder_outputs")
        options["is_encoder_decoder"] = False
        ids, kwargs = super()._expand_inputs_for_generation(*args, **options)
        return ids, {**kwargs, "encoder_outputs": encoder_outputs}

    def _reorder_cache(self, cache: Any, beams: Tensor) -> Any:
        """Reorder the cache by beams; only that of the tokens if all beams share the inputs."""
        (cache.self_attention_cache if self.fusion.shares_inputs else cache).reorder_cache(beams)
        return cache

    def shift_right(self, labels: Tensor) -> Tensor:
        """Return the decoder's input ids (n, t) for `labels` (n, t): the start token, then all
        labels but the last."""
        start = self.generation_config.decoder_start_token_id
        ids = labels.masked_fill(labels == -100, self.generation_config.pad_token_id)
        return torch.cat([ids.new_full((len(ids), 1), start), ids[:, :-1]], dim=1)


def load_model(folder: Path, model_class: type[Any] = CaptionerModel) -> Any:
    """Load a model from a folder that `save_pretrained` wrote, in single precision.

    Raises BrokenData if a weight is missing or unexpected: none is initialized at random.
    """
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                key_mapping=OLD_WEIGHTS,
            )
    except (OSError, ValueError) as error:
        raise BrokenData(
            f'Cannot read the model in "{folder}": {str(error).splitlines()[0]}'
        ) from None
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, info.get(problem) or ()))
        if keys:
            raise BrokenData(
                f'The weights in "{folder}" do not fit its config.json: '
                f"{problem.replace('_', ' ')} {', '.join(keys[:3])}"
                f"{' ...' if len(keys) > 3 else ''}. "
                "Download or train the checkpoint again."
            )
    return model.eval().float()  # half precision is for storage only


def _new_decoder(config: PreTrainedConfig, needs_cross_attention: bool) -> Any:
    """Return a decoder with random weights, its cross-attention gated."""
    if isinstance(config, DecoderConfig):
        return EvidenceDecoder(config)
    decoder = AutoModelForCausalLM.from_config(config)
    if needs_cross_attention:
        gate_cross_attention(decoder)
    return decoder
