"""A Transformers chat model from a checkpoint folder: turns of text and images in, text out.

It is an image-text-to-text model or an instruction-tuned language model. Loading is strict: a
missing weight is an error."""

from __future__ import annotations

import math
from collections.abc import Generator as Stream
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation import BaseStreamer

from ravlm import runtime
from ravlm.encoders.hub_files import hash_weights, weight_files
from ravlm.encoders.processors import read_processor
from ravlm.encoders.transformers_io import check_weights, read_config, read_model, read_tokenizer
from ravlm.generation.chat.adapters import adapter_fingerprint, is_adapter, merge_adapter
from ravlm.generation.chat.checkpoint import auto_class, reads_images
from ravlm.generation.chat.decoding import (
    CertaintyRecorder,
    DecodingSettings,
    QueueStreamer,
    SamplingParams,
    StopOnEvent,
    seeded,
)
from ravlm.generation.chat.prompt_forms import PromptForm
from ravlm.generation.chat.prompts import ChatTurn
from ravlm.generation.chat.quantization import (
    DeviceMap,
    Quantize,
    placement_options,
    quantized_options,
)
from ravlm.generation.chat.reply import THOUGHT_ENDS, THOUGHT_STARTS, ReplyEnd
from ravlm.generation.chat.template import read_template

Conversation = Sequence[ChatTurn]
_SIZE_STEP = 128
"""An image is counted as large as the next square with a side of a multiple of this."""
_DEFAULT_CONTEXT = 2048
_MAX_ADDED_TOKENS = 3
"""The start, the end and the newline of a prompt."""
_PARTIAL_CHARACTER = "\ufffd"
"""What the first bytes of a character are decoded to."""


@dataclass(frozen=True)
class Completion:
    """A text that the model generated."""

    text: str
    certainty: float
    """Geometric mean of the probabilities of its tokens."""
    end: ReplyEnd
    """Whether it ended by itself or at the token limit."""


class ChatModel:
    """A network with its tokenizer and, if it reads images, its processor; messages call it `name`.

    Raises Mismatch for a model without a usable chat template.
    """

    needs_instructions = True
    """Whether prompts say what to do; a model that was trained on these tasks knows it."""

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        processor: Any,
        name: str,
        folders: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.folders = folders
        """Where the weights came from."""
        self.reads_images = processor is not None
        self._processor = processor
        self.tokenizer = tokenizer
        self.is_encoder_decoder = network.config.get_text_config().is_encoder_decoder
        # Padding between an image and its text would change the distances in an encoder.
        tokenizer.padding_side = "right" if self.is_encoder_decoder else "left"
        if tokenizer.pad_token is None:  # padding is masked, so any token will do
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        self._thought_marks = _special_thought_marks(tokenizer)
        self.template = read_template(tokenizer, processor, name, network.config.model_type)
        is_placed = getattr(network, "quantization_method", None) or hasattr(
            network, "hf_device_map"
        )
        self.network = (network if is_placed else network.to(runtime.device())).eval()
        self.context_length = _context_length(network.config, self.template.form)
        """Tokens of prompt and reply together; of the prompt alone for an encoder-decoder."""
        self._decoding = DecodingSettings(network, tokenizer)
        self._image_tokens: dict[int, int] = {}  # side of the square -> tokens
        self._lock = Lock()

    @classmethod
    def load(
        cls,
        folder: Path,
        name: str,
        adapter: Path | None = None,
        dtype: torch.dtype | None = None,
        quantize: Quantize = None,
        device_map: DeviceMap = None,
    ) -> ChatModel:
        """Load a checkpoint folder, with the LoRA weights of the folder `adapter` if there is one.

        `dtype` defaults to the fastest one for inference; `quantize` stores the weights in 4 or 8
        bits, `device_map` spreads them over devices ("auto"). Raises Mismatch for a checkpoint of
        another kind, without a usable chat template, or with weights that do not fit, and what
        `quantized_options`, `placement_options` and `merge_adapter` raise."""
        config = read_config(folder, name)
        model_class = auto_class(config, name)
        processor = read_processor(folder, name, config) if reads_images(config) else None
        tokenizer = read_tokenizer(folder, name) if processor is None else processor.tokenizer
        read_template(tokenizer, processor, name, config.model_type)  # before the weights
        dtype = dtype or runtime.inference_dtype(runtime.device())
        options = quantized_options(quantize, dtype) if quantize else {}
        options |= placement_options(device_map, hasattr(config, "quantization_config"))
        network, info = read_model(folder, dtype, model_class, **options)
        check_weights(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), info, name)
        if adapter is None:
            return cls(network, tokenizer, processor, name, [folder])
        network = merge_adapter(network, adapter)
        return cls(network, tokenizer, processor, name, [folder, adapter])

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights."""
        return " ".join(
            adapter_fingerprint(path) if is_adapter(path) else hash_weights(weight_files(path))
            for path in self.folders
        )

    # prompts

    def count_tokens(self, turns: Conversation) -> int:
        """Return the number of tokens of a prompt; images may be overestimated."""
        image_tokens = sum(self._count_image(image) for turn in turns for image in turn.images)
        text = self.template.render(turns)
        return image_tokens + self.count_text_tokens(text) + self._num_added_tokens(text)

    def count_text_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, by the tokenizer that needs the most:
        InstructBLIP has two."""
        tokenizers = (self.tokenizer, getattr(self._processor, "qformer_tokenizer", None))
        return max(
            len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            for tokenizer in tokenizers
            if tokenizer is not None
        )

    def inputs(self, conversations: Sequence[Conversation]) -> dict[str, Tensor]:
        """Return the model's inputs, padded on the left.

        All conversations have the same number of images."""
        texts = [self.template.render(turns) for turns in conversations]
        images = [[image for turn in turns for image in turn.images] for turns in conversations]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if self.template.form is None:  # otherwise the processor knows best
            options["add_special_tokens"] = self._needs_bos(texts[0])
        if images and images[0]:
            assert self._processor is not None
            batch = self._processor(text=texts, images=images, **options)
        else:
            batch = self.tokenizer(texts, return_token_type_ids=False, verbose=False, **options)
        device, dtype = self.network.device, self.network.dtype
        return {
            key: tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
            for key, tensor in batch.items()
            if isinstance(tensor, Tensor) and key != "labels"  # PaliGemma's processor adds some
        }

    def _num_added_tokens(self, text: str) -> int:
        """Return at most how many tokens the tokenizer adds around a text."""
        return self._needs_bos(text) if self.template.form is None else _MAX_ADDED_TOKENS

    def _needs_bos(self, text: str) -> bool:
        """Whether the tokenizer must add its first token, as Transformers' processors do."""
        first = self.tokenizer.bos_token
        return self._processor is not None and not (first and text.startswith(first))

    def _count_image(self, image: Image.Image) -> int:
        """Return the tokens of an image, measured once per size."""
        side = math.ceil(max(image.size) / _SIZE_STEP) * _SIZE_STEP
        if side not in self._image_tokens:
            turns = [ChatTurn("user", (Image.new("RGB", (side, side)), "?"))]
            total = self.inputs([turns])["input_ids"].shape[1]
            self._image_tokens[side] = total - self.count_text_tokens(self.template.render(turns))
        return self._image_tokens[side]

    # replies

    def complete(
        self, conversations: Sequence[Conversation], params: SamplingParams
    ) -> list[Completion]:
        """Return the next reply of each conversation; all have the same number of images."""
        return self._generate(conversations, params)

    def stream(self, turns: Conversation, params: SamplingParams) -> Stream[str, None, Completion]:
        """Yield the next reply in pieces, and return it.

        Generation stops when the stream is closed."""
        tokens: SimpleQueue[int | None] = SimpleQueue()
        stop = Event()
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(
                self._generate, [turns], params, QueueStreamer(tokens), StopOnEvent(stop)
            )
            reply.add_done_callback(lambda _: tokens.put(None))
            try:
                output_text = yield from self._decode_stream(tokens)
                completion = reply.result()[0]
                text = completion.text
                if text.startswith(output_text) and len(text) > len(output_text):
                    yield text[len(output_text) :]
                return completion
            finally:
                stop.set()

    def _decode_stream(self, tokens: SimpleQueue[int | None]) -> Stream[str, None, str]:
        """Yield text as soon as its characters are complete, and return all of it."""
        ids: list[int] = []
        output_text = ""
        while (token := tokens.get()) is not None:
            ids.append(token)
            text = self._decode(ids).rstrip(_PARTIAL_CHARACTER)
            text = self._decoding.before_stop(text, is_partial=True)
            if text.startswith(output_text) and len(text) > len(output_text):
                yield text[len(output_text) :]
                output_text = text
        return output_text

    def _generate(
        self,
        conversations: Sequence[Conversation],
        params: SamplingParams,
        streamer: BaseStreamer | None = None,
        stopping: StoppingCriteria | None = None,
    ) -> list[Completion]:
        with self._lock, torch.inference_mode(), seeded(params), self._decoding.isolated():
            inputs = self.inputs(conversations)
            prompt_length = 0 if self.is_encoder_decoder else inputs["input_ids"].shape[1]
            max_tokens = max(1, min(params.max_tokens, self.context_length - prompt_length))
            recorder = CertaintyRecorder()
            output = self.network.generate(
                **inputs,
                **self._decoding.options(params, max_tokens),
                logits_processor=LogitsProcessorList([recorder]),
                stopping_criteria=StoppingCriteriaList([] if stopping is None else [stopping]),
                streamer=streamer,
            )
            # Some models return the prompt as well, some the first token of a decoder.
            ids = output[:, output.shape[1] - recorder.num_steps :]
            certainties = recorder.certainty(ids, self._decoding.final_tokens)
        return [
            self._completion(row, certainty, max_tokens)
            for row, certainty in zip(ids.tolist(), certainties, strict=True)
        ]

    def _completion(self, ids: list[int], certainty: float, max_tokens: int) -> Completion:
        text = self._decode(ids)
        reply = self._decoding.before_stop(text)
        has_ended = reply != text or bool(set(ids) & set(self.end_tokens()))
        is_cut = len(ids) >= max_tokens and not has_ended
        return Completion(reply, certainty, ReplyEnd("length" if is_cut else "stop", max_tokens))

    def _decode(self, ids: list[int]) -> str:
        """Return the text of tokens, without special ones but for the marks of thoughts."""
        text = ""
        start = 0
        for position, token in enumerate([*ids, None]):
            if token is None or token in self._thought_marks:
                text += self.tokenizer.decode(
                    ids[start:position],
                    skip_special_tokens=True,
                    clean_up_tokenization_spaces=False,
                )
                text += "" if token is None else self._thought_marks[token]
                start = position + 1
        return text

    def end_tokens(self) -> list[int]:
        """Return the tokens that end a reply."""
        return self._decoding.end_tokens


def _context_length(config: Any, form: PromptForm | None) -> int:
    """Return how many tokens a model reads."""
    if form is not None and form.context_length:
        return form.context_length
    text_config = config.get_text_config()
    names = ("max_position_embeddings", "n_positions")
    lengths = [length for name in names if (length := getattr(text_config, name, None))]
    length = lengths[0] if lengths else _DEFAULT_CONTEXT
    if config.model_type == "instructblip":  # its Q-Former reads the text, too
        length = min(length, config.qformer_config.max_position_embeddings)
    return length


def _special_thought_marks(tokenizer: Any) -> dict[int, str]:
    """Return the special tokens that begin or end a thought, by id."""
    return {
        token_id: str(token)
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special and str(token) in (*THOUGHT_STARTS, *THOUGHT_ENDS)
    }
