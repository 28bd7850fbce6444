"""A model of Transformers that talks: words and pictures in turns to words, from a checkpoint
folder.

Image-text-to-text models, and language models tuned on instructions. Loading is strict: what is
missing is an error. Text can't pass for a control token or a picture. Knows no request and no
evidence."""

from __future__ import annotations

import math
from collections.abc import Generator as Stream
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation import BaseStreamer

from ravlm import runtime
from ravlm.encoders.clip import check_weights, read_config, read_model, read_tokenizer
from ravlm.errors import Mismatch
from ravlm.generation.chat.checkpoint import (
    chat_template,
    control_tokens,
    model_kind,
    read_processor,
)
from ravlm.generation.chat.prompts import ChatTurn

_SIZE_STEP = 128
"""Pictures are counted as if as large as the next square of such steps."""


@dataclass(frozen=True)
class Completion:
    """What the model wrote."""

    text: str
    certainty: float
    """The geometric mean of the probabilities of its tokens."""


@dataclass(frozen=True)
class SamplingParams:
    """How it is to be written."""

    length: int
    """Most tokens."""
    temperature: float = 0.0
    """0: the likeliest token each time."""
    seed: int = 0


class ChatModel:
    """Loaded from `folder`; `name` is what it will be found by again.

    Raises Mismatch for a checkpoint of another kind, without a chat template, or whose weights are
    not its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        config = read_config(folder, name)
        kind = model_kind(config, name)
        self.reads_pictures = kind is AutoModelForImageTextToText
        self._processor = read_processor(folder, name, config) if self.reads_pictures else None
        self.tokenizer = (
            read_tokenizer(folder, name) if self._processor is None else self._processor.tokenizer
        )
        self._template = chat_template(self._processor, self.tokenizer, name)
        self._control = control_tokens(self.tokenizer, self._processor)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:  # masked out, so any token will do
            self.tokenizer.pad_token = (
                self.tokenizer.eos_token or self.tokenizer.convert_ids_to_tokens(0)
            )
        self._takes_system, self._takes_parts = True, self.reads_pictures
        self._find_form()
        device = runtime.device()
        network, info = read_model(folder, runtime.inference_dtype(device), kind)
        check_weights(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), info, name)
        self.network = network.to(device).eval()
        text = config.get_text_config()
        self.context: int = (
            getattr(text, "max_position_embeddings", None)
            or getattr(text, "n_positions", None)
            or 2048
        )
        """Tokens that it reads and writes in all."""
        self._picture_tokens: dict[int, int] = {}
        self._alone = Lock()

    # what it is told

    def rendered(self, turns: Sequence[ChatTurn]) -> str:
        """The turns as the model was trained to read them, up to where it begins to speak."""
        told = list(turns)
        if told and told[0].role == "system" and not self._takes_system:
            told[1] = ChatTurn(told[1].role, (*told[0].parts, "\n\n", *told[1].parts))
            del told[0]
        messages = [{"role": turn.role, "content": self._content(turn)} for turn in told]
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=True,
                enable_thinking=False,
            )  # fmt: skip
        except (TemplateError, TypeError, ValueError) as error:
            raise Mismatch(f'The chat template of "{self.name}" can\'t be used: {error}.') from None

    def count(self, turns: Sequence[ChatTurn]) -> int:
        """Tokens that the turns take, pictures at least as many as they do."""
        pictures = sum(self._cost(picture) for turn in turns for picture in turn.pictures)
        text = self.rendered(turns)
        return pictures + self.measure(text) + self._begins(text)

    def measure(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def inputs(self, talks: Sequence[Sequence[ChatTurn]]) -> dict[str, Tensor]:
        """The model's inputs for talks with equally many pictures, padded on the left."""
        texts = [self.rendered(talk) for talk in talks]
        pictures = [[picture for turn in talk for picture in turn.pictures] for talk in talks]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        options["add_special_tokens"] = self._begins(texts[0])
        if pictures and pictures[0]:
            assert self._processor is not None
            batch = self._processor(text=texts, images=pictures, **options)
        else:
            batch = self.tokenizer(texts, return_token_type_ids=False, verbose=False, **options)
        device, dtype = self.network.device, self.network.dtype
        return {
            key: x.to(device, dtype) if x.is_floating_point() else x.to(device)
            for key, x in batch.items()
            if isinstance(x, Tensor)
        }

    def _begins(self, text: str) -> bool:
        """Whether the tokenizer must put its first token before a rendered text, as Transformers'
        processors do."""
        first = self.tokenizer.bos_token
        return self._processor is not None and not (first and text.startswith(first))

    def _content(self, turn: ChatTurn) -> str | list[dict[str, str]]:
        if not self._takes_parts and not turn.pictures:
            return self._harmless(turn.text)
        return [
            {"type": "text", "text": self._harmless(part)}
            if isinstance(part, str)
            else {"type": "image"}
            for part in turn.parts
        ]

    def _harmless(self, text: str) -> str:
        """A text without control tokens: a space parts their first character from the rest."""
        return self._control.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)

    def _find_form(self) -> None:
        """Whether the template takes a system's turn, and a turn without pictures as a list of
        parts."""
        turns = [
            ChatTurn("system", ("Aaa",)),
            ChatTurn("user", ("Bbb",)),
            ChatTurn("assistant", ("Ccc",)),
            ChatTurn("user", ("Ddd",)),
        ]
        for system in (True, False):
            for parts in (True, False) if self._takes_parts else (False,):
                self._takes_system, self._takes_parts = system, parts
                try:
                    text = self.rendered(turns)
                except Mismatch:
                    continue
                if (
                    all(word in text for word in ("Aaa", "Bbb", "Ccc", "Ddd"))
                    and "'type'" not in text
                ):
                    return
            self._takes_parts = self.reads_pictures
        raise Mismatch(
            f'The chat template of "{self.name}" loses what is said; another checkpoint is needed.'
        )

    def _cost(self, picture: Image.Image) -> int:
        edge = math.ceil(max(picture.size) / _SIZE_STEP) * _SIZE_STEP
        if edge not in self._picture_tokens:
            talk = [ChatTurn("user", (Image.new("RGB", (edge, edge)), "?"))]
            whole = self.inputs([talk])["input_ids"].shape[1]
            self._picture_tokens[edge] = whole - self.measure(self.rendered(talk))
        return self._picture_tokens[edge]

    # what it says

    def complete(
        self, talks: Sequence[Sequence[ChatTurn]], manner: SamplingParams
    ) -> list[Completion]:
        """The next words of each talk; all talks have equally many pictures."""
        return self._generate(talks, manner)

    def stream(self, talk: Sequence[ChatTurn], manner: SamplingParams) -> Stream[str, None, float]:
        """The next words as they come; returns the certainty. What is not read any more is not
        written."""
        tokens: SimpleQueue[int | None] = SimpleQueue()
        stop = Event()
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(self._generate, [talk], manner, _Handover(tokens), _Until(stop))
            said.add_done_callback(lambda _: tokens.put(None))
            ids: list[int] = []
            shown = ""
            try:
                while (token := tokens.get()) is not None:
                    ids.append(token)
                    text = self._decoded(ids)
                    whole = text.rstrip("\ufffd")  # the first bytes of a character
                    if whole.startswith(shown) and len(whole) > len(shown):
                        yield whole[len(shown) :]
                        shown = whole
                text = said.result()[0].text
                if text.startswith(shown) and len(text) > len(shown):
                    yield text[len(shown) :]
                return said.result()[0].certainty
            finally:
                stop.set()

    def _generate(
        self,
        talks: Sequence[Sequence[ChatTurn]],
        manner: SamplingParams,
        streamer: BaseStreamer | None = None,
        until: StoppingCriteria | None = None,
    ) -> list[Completion]:
        with self._alone, torch.inference_mode(), _seeded(manner):
            inputs = self.inputs(talks)
            before = inputs["input_ids"].shape[1]
            watch = _Watch()
            written = self.network.generate(
                **inputs,
                generation_config=self._settings(manner),
                logits_processor=LogitsProcessorList([watch]),
                stopping_criteria=StoppingCriteriaList([until] if until is not None else []),
                streamer=streamer,
            )
            ids = written[:, before:]
            certainty = watch.certainty(ids, self._ends())
        return [
            Completion(self._decoded(row.tolist()), sure)
            for row, sure in zip(ids, certainty, strict=True)
        ]

    def _decoded(self, ids: list[int]) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _ends(self) -> list[int]:
        """The tokens that end what it says."""
        ends = self.network.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return list(ends) if isinstance(ends, list | tuple) else [] if ends is None else [ends]

    def _settings(self, manner: SamplingParams) -> Any:
        own = self.network.generation_config
        length = max(1, min(manner.length, self.context - 1))
        return GenerationConfig(
            max_new_tokens=length,
            do_sample=manner.temperature > 0,
            temperature=manner.temperature or None,
            top_k=0 if manner.temperature > 0 else None,
            repetition_penalty=own.repetition_penalty,
            bos_token_id=own.bos_token_id,
            eos_token_id=self._ends() or None,
            pad_token_id=self.tokenizer.pad_token_id,
        )


class _Watch(LogitsProcessor):
    """Adds up the log-probabilities of the tokens that are chosen; changes nothing."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._logs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._last is not None:
            self._logs.append(self._last.gather(1, input_ids[:, -1:])[:, 0])
        self._last = scores.float().log_softmax(dim=-1)
        return scores

    def certainty(self, ids: Tensor, ends: Sequence[int]) -> list[float]:
        """For each row of `ids` (n, t), the mean up to its end, as a probability."""
        if self._last is None or not ids.shape[1]:
            return [0.0] * len(ids)
        logs = torch.stack([*self._logs, self._last.gather(1, ids[:, -1:])[:, 0]], dim=1)
        ended = torch.isin(ids, torch.tensor(list(ends), device=ids.device)).long()
        counts = (ended.cumsum(dim=1) - ended) == 0
        mean = (logs.masked_fill(~counts, 0).sum(dim=1) / counts.sum(dim=1)).exp()
        return mean.tolist()


class _Handover(BaseStreamer):
    """Gives each new token to another thread."""

    def __init__(self, tokens: SimpleQueue[int | None]) -> None:
        self._tokens, self._begun = tokens, False

    def put(self, value: Tensor) -> None:
        if self._begun:
            for token in value.flatten().tolist():
                self._tokens.put(token)
        self._begun = True  # what comes first is the prompt

    def end(self) -> None:
        """The end is told by the thread itself."""


class _Until(StoppingCriteria):
    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), self._stop.is_set(), device=input_ids.device)


@contextmanager
def _seeded(manner: SamplingParams) -> Iterator[None]:
    """Torch's generators seeded for the time of the block, where anything is drawn."""
    if manner.temperature <= 0:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(manner.seed)
        yield
