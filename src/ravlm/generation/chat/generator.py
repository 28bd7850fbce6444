"""Transformers chat models as generators: image-text-to-text models and instruction-tuned language
models, by folder or hub name. A language model gets a description in place of the image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Stream
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ravlm.data.parallel import batched
from ravlm.encoders.hub_files import find_folder, hash_weights, weight_files
from ravlm.errors import InvalidInput
from ravlm.generation.base import Generator, Request, VerbName, abstain
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.decoding import SamplingParams
from ravlm.generation.chat.model import ChatModel
from ravlm.generation.chat.prompts import MAX_NEW_TOKENS, ChatTurn, PromptBudget, build_prompt
from ravlm.records import Answer

_BATCH_SIZE = 4
_MAX_PROMPT_TOKENS = 8192
"""Even if the model could read more: on a CPU that takes minutes."""


class _Prompt(NamedTuple):
    row: int
    """Index of the request."""
    turns: list[ChatTurn]


class ChatGenerator(Generator):
    """A chat checkpoint as a generator.

    `name_or_folder` is a checkpoint with a chat template, `name` what a folder is called in
    messages. `describe` returns what a request's image shows, for a model that reads none. With
    `temperature` 0 the most likely tokens are taken; above it, the request's seed samples them.

    Raises NotFound, Mismatch or BrokenData for a checkpoint that cannot be used, InvalidInput for
    a question that is too long."""

    def __init__(
        self,
        name_or_folder: str | Path,
        temperature: float = 0.0,
        describe: Callable[[Request], str] | None = None,
        name: str = "",
    ) -> None:
        if temperature < 0:
            raise InvalidInput(f"The temperature is {temperature}; it must be 0 or more.")
        self.name = name or str(name_or_folder)
        self._folder = find_folder(name_or_folder)
        self.model = ChatModel(self._folder, self.name)
        self.temperature = temperature
        self._describe = describe

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights and the temperature."""
        return f"{hash_weights(weight_files(self._folder))} {self.temperature}"

    def num_parameters(self) -> int:
        """Return the number of parameters."""
        return sum(parameter.numel() for parameter in self.model.network.parameters())

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return an answer for each request, in order.

        Requests of one task with the same number of images are generated in batches."""
        answers: dict[int, Answer] = {}
        for task, prompts in self._batches(requests, answers):
            seed = requests[prompts[0].row].seed
            params = SamplingParams(MAX_NEW_TOKENS[task], self.temperature, seed)
            completions = self.model.complete([prompt.turns for prompt in prompts], params)
            for prompt, completion in zip(prompts, completions, strict=True):
                parser = CitationParser(requests[prompt.row])
                parser.feed(completion.text)
                _, answers[prompt.row] = self._finish(parser, completion.certainty)
        return [answers[row] for row in range(len(requests))]

    def _batches(
        self, requests: Sequence[Request], answers: dict[int, Answer]
    ) -> Iterator[tuple[VerbName, list[_Prompt]]]:
        """Yield batches of prompts; abstentions of requests without a prompt go to `answers`."""
        groups: dict[tuple[VerbName, int], list[_Prompt]] = defaultdict(list)
        for row, request in enumerate(requests):
            if self._sees_nothing(request):
                answers[row] = _abstain_unseen(request)
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
        parser = CitationParser(request)
        params = SamplingParams(MAX_NEW_TOKENS[request.task], self.temperature, request.seed)
        tokens = self.model.stream(self.build_turns(request), params)
        while True:
            try:
                piece = parser.feed(next(tokens))
            except StopIteration as end:
                certainty = end.value
                break
            if piece:
                yield piece
        ending, answer = self._finish(parser, certainty)
        if ending:
            yield ending
        return answer

    def _finish(self, parser: CitationParser, certainty: float) -> tuple[str, Answer]:
        trace = {"model": self.name, "certainty": round(certainty, 4)}
        return parser.finish(certainty, trace)

    def _sees_nothing(self, request: Request) -> bool:
        """Whether a request has an image that the model cannot read, and no evidence."""
        cannot_read_image = request.image is not None and not self.model.reads_images
        return cannot_read_image and not request.evidence.hits

    def build_turns(self, request: Request) -> list[ChatTurn]:
        """Return the prompt of a request, within the model's context length."""
        context = self.model.context_length
        prompt_tokens = min(_MAX_PROMPT_TOKENS, context - MAX_NEW_TOKENS[request.task])
        budget = PromptBudget(max(prompt_tokens, context // 2), self.model.reads_images)
        return build_prompt(
            request,
            budget,
            self.model.count_tokens,
            self.model.count_text_tokens,
            self._describe,
        )


def _abstain_unseen(request: Request) -> Answer:
    return abstain(request, "the model reads no images, and there is no evidence")
