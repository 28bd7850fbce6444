"""Any model of Transformers that talks as a generator: image-text-to-text models, and language
models that follow instructions, by folder or hub name.

A language model reads no pictures: what one shows is told it in words. Knows no knowledge base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as Stream
from functools import cached_property
from pathlib import Path

from ravlm.encoders.hub_files import find_folder, hash_weights, weight_files
from ravlm.errors import InvalidInput
from ravlm.generation.base import Generator, Request, VerbName, abstain
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.model import ChatModel, SamplingParams
from ravlm.generation.chat.prompts import LENGTHS, ChatTurn, PromptBudget, prompt
from ravlm.records import Answer

_AT_ONCE = 4
"""Requests that are written together."""
_MOST_TOKENS = 8192
"""Of a prompt, where the model would read more: on a processor it takes minutes to read so many."""


class ChatGenerator(Generator):
    """`name_or_folder`: a checkpoint with a chat template; `name`: what a folder is called by.
    `describe`: tells a model that reads no pictures what one shows. `temperature`: 0 takes the
    likeliest words, above it the request's seed draws them.

    Raises NotFound, Mismatch or BrokenData for a checkpoint that can't be used, InvalidInput for a
    question that the model can't take."""

    def __init__(
        self,
        name_or_folder: str | Path,
        temperature: float = 0.0,
        describe: Callable[[Request], str] | None = None,
        name: str = "",
    ) -> None:
        if temperature < 0:
            raise InvalidInput(f"The temperature is {temperature}; 0 or more is needed.")
        self.name = name or str(name_or_folder)
        self._folder = find_folder(name_or_folder)
        self.model = ChatModel(self._folder, self.name)
        self.temperature = temperature
        self._describe = describe

    @cached_property
    def fingerprint(self) -> str:
        """Names the weights."""
        return f"{hash_weights(weight_files(self._folder))} {self.temperature}"

    def num_parameters(self) -> int:
        """How many numbers the model has."""
        return sum(p.numel() for p in self.model.network.parameters())

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer for each request, in order; those of one task and of as many pictures are
        written together."""
        answers: dict[int, Answer] = {}
        alike: dict[tuple[VerbName, int], list[tuple[int, list[ChatTurn]]]] = {}
        for place, request in enumerate(requests):
            if self._blind(request):
                answers[place] = abstain(
                    request, "the model reads no pictures, and there is no evidence"
                )
                continue
            turns = self._turns(request)
            alike.setdefault((request.task, sum(len(turn.pictures) for turn in turns)), []).append(
                (place, turns)
            )
        for (task, _), rows in alike.items():
            size = 1 if self.temperature > 0 else _AT_ONCE
            for start in range(0, len(rows), size):
                some = rows[start : start + size]
                manner = SamplingParams(LENGTHS[task], self.temperature, requests[some[0][0]].seed)
                for (place, _), said in zip(
                    some, self.model.complete([turns for _, turns in some], manner), strict=True
                ):
                    citing = CitationParser(requests[place])
                    citing.feed(said.text)
                    answers[place] = self._finished(citing, said.certainty)[1]
        return [answers[place] for place in range(len(requests))]

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Pieces of the text as they come."""
        if self._blind(request):
            return (yield from super().stream(request))
        citing = CitationParser(request)
        words = self.model.stream(
            self._turns(request),
            SamplingParams(LENGTHS[request.task], self.temperature, request.seed),
        )
        while True:
            try:
                piece = citing.feed(next(words))
            except StopIteration as end:
                certainty = end.value
                break
            if piece:
                yield piece
        last, answer = self._finished(citing, certainty)
        if last:
            yield last
        return answer

    def _finished(self, citing: CitationParser, certainty: float) -> tuple[str, Answer]:
        return citing.finish(certainty, model=self.name, certainty=round(certainty, 4))

    def _blind(self, request: Request) -> bool:
        """Whether all that there is to go by is a picture that the model does not see."""
        return (
            request.image is not None
            and not self.model.reads_pictures
            and not request.evidence.hits
        )

    def _turns(self, request: Request) -> list[ChatTurn]:
        room = min(_MOST_TOKENS, self.model.context - LENGTHS[request.task])
        limits = PromptBudget(max(room, self.model.context // 2), self.model.reads_pictures)
        return prompt(request, limits, self.model.count, self.model.measure, self._describe)
