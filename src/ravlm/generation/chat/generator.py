"""Transformers chat models as generators: image-text-to-text models and instruction-tuned language
models, by folder or hub name. A language model gets a description in place of the image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Stream
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ravlm.data.parallel import batched
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import InvalidInput
from ravlm.generation.base import Generator, Request, VerbName
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.decoding import SamplingParams
from ravlm.generation.chat.model import ChatModel, Completion
from ravlm.generation.chat.prompts import (
    MAX_NEW_TOKENS,
    THINKING_TOKENS,
    ChatTurn,
    PromptBudget,
    abstain_unseen,
    build_prompt,
    checked_max_tokens,
)
from ravlm.records import Answer

if TYPE_CHECKING:
    import torch

    from ravlm.generation.chat.quantization import DeviceMap, Quantize

_BATCH_SIZE = 4
_EVIDENCE_IMAGES = PromptBudget.max_evidence_images
_MAX_PROMPT_TOKENS = 8192
"""Even if the model could read more: on a CPU that takes minutes."""


class _Prompt(NamedTuple):
    row: int
    """Index of the request."""
    turns: list[ChatTurn]


class ChatGenerator(Generator):
    """A chat model as a generator.

    `describe` returns what a request's image shows, for a model that reads none. With `temperature`
    0 the most likely tokens are taken; above it, the request's seed samples them. `max_tokens`
    limits a reply with its thoughts; the default depends on the task.

    Raises InvalidInput for a question that is too long."""

    talks = True

    def __init__(
        self,
        model: ChatModel,
        temperature: float = 0.0,
        describe: Callable[[Request], str] | None = None,
        max_tokens: int | None = None,
    ) -> None:
        if temperature < 0:
            raise InvalidInput(f"The temperature is {temperature}; it must be 0 or more.")
        self.name = model.name
        self.model = model
        self.temperature = temperature
        self.max_tokens = checked_max_tokens(max_tokens)
        self.reads_several_images = model.reads_images and model.template.form is None
        self._describe = describe

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        name: str = "",
        adapter: Path | None = None,
        dtype: torch.dtype | None = None,
        quantize: Quantize = None,
        device_map: DeviceMap = None,
        **options: Any,
    ) -> ChatGenerator:
        """Load a checkpoint with a chat template; `name` is what a folder is called in messages.

        `adapter`, `dtype`, `quantize` and `device_map` as in `ChatModel.load`, `options` are those
        of the class.
        Raises NotFound, Mismatch or BrokenData for a checkpoint that cannot be used."""
        folder = find_folder(name_or_folder)
        name = name or str(name_or_folder)
        model = ChatModel.load(folder, name, adapter, dtype, quantize, device_map)
        return cls(model, **options)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights and the settings."""
        limit = f" {self.max_tokens}" if self.max_tokens else ""
        return f"{self.model.fingerprint} {self.temperature}{limit}"

    def token_limit(self, task: VerbName) -> int:
        """Return the maximum number of tokens of a reply."""
        thoughts = THINKING_TOKENS if self.model.template.opens_thought else 0
        return self.max_tokens or MAX_NEW_TOKENS[task] + thoughts

    def num_parameters(self) -> int:
        """Return the number of parameters."""
        return sum(parameter.numel() for parameter in self.model.network.parameters())

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return an answer for each request, in order.

        Requests of one task with the same number of images are generated in batches."""
        answers: dict[int, Answer] = {}
        for task, prompts in self._batches(requests, answers):
            seed = requests[prompts[0].row].seed
            params = SamplingParams(self.token_limit(task), self.temperature, seed)
            completions = self.model.complete([prompt.turns for prompt in prompts], params)
            for prompt, completion in zip(prompts, completions, strict=True):
                parser = self._parser(requests[prompt.row])
                parser.feed(completion.text)
                _, answers[prompt.row] = self._finish(parser, completion)
        return [answers[row] for row in range(len(requests))]

    def _batches(
        self, requests: Sequence[Request], answers: dict[int, Answer]
    ) -> Iterator[tuple[VerbName, list[_Prompt]]]:
        """Yield batches of prompts; abstentions of requests without a prompt go to `answers`."""
        groups: dict[tuple[VerbName, int], list[_Prompt]] = defaultdict(list)
        for row, request in enumerate(requests):
            if self._sees_nothing(request):
                answers[row] = abstain_unseen(request)
                continue
            turns = self.build_turns(request)
            num_images = sum(len(turn.images) for turn in turns)
            groups[request.task, num_images].append(_Prompt(row, turns))
        batch_size = 1 if self.temperature > 0 else _BATCH_SIZE  # each request has its own seed
        for (task, _), prompts in groups.items():
            for batch in batched(prompts, batch_size):
                yield task, batch

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Yield pieces of the text as they are generated, and return the answer."""
        if self._sees_nothing(request):
            return (yield from super().stream(request))
        parser = self._parser(request)
        params = SamplingParams(self.token_limit(request.task), self.temperature, request.seed)
        tokens = self.model.stream(self.build_turns(request), params)
        while True:
            try:
                piece = parser.feed(next(tokens))
            except StopIteration as end:
                completion = end.value
                break
            if piece:
                yield piece
        ending, answer = self._finish(parser, completion)
        if ending:
            yield ending
        return answer

    def _parser(self, request: Request) -> CitationParser:
        return CitationParser(request, self.model.template.opens_thought)

    def _finish(self, parser: CitationParser, completion: Completion) -> tuple[str, Answer]:
        trace = {"model": self.name, "certainty": round(completion.certainty, 4)}
        return parser.finish(completion.certainty, trace, completion.end)

    def _sees_nothing(self, request: Request) -> bool:
        """Whether a request has an image that the model cannot read, and no evidence."""
        cannot_read_image = request.image is not None and not self.model.reads_images
        return cannot_read_image and not request.evidence.hits

    def _max_prompt_tokens(self, task: VerbName) -> int:
        context = self.model.context_length
        reply = 0 if self.model.is_encoder_decoder else self.token_limit(task)
        return max(min(_MAX_PROMPT_TOKENS, context - reply), context // 2)

    def build_turns(self, request: Request) -> list[ChatTurn]:
        """Return the prompt of a request, within the model's context length."""
        form = self.model.template.form
        if form is not None:
            request = form.adapt(request, self.name, self.model.network.config.model_type)
        instructions = self.model.needs_instructions if form is None else form.instructions
        budget = PromptBudget(
            self._max_prompt_tokens(request.task),
            self.model.reads_images,
            max_evidence_images=_EVIDENCE_IMAGES if form is None else 0,
            instructions=instructions,
            fenced=form is None or instructions,
        )
        return build_prompt(
            request,
            budget,
            self.model.count_tokens,
            self.model.count_text_tokens,
            self._describe,
        )
