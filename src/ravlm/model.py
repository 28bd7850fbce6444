"""RetrievalAugmentedVLM: a knowledge base, a generator and an editor put together. It only
delegates.

`Retriever` finds the evidence and a generator writes from it; here lists are spread out, arguments
are checked, and what is not in the base is abstained from before any generator is asked."""

from __future__ import annotations

import os
from collections.abc import Generator as Stream
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, overload

from ravlm.data.text import is_chinese
from ravlm.editing.auto import EditorName, load_editor
from ravlm.editing.base import Editor, EditRequest
from ravlm.errors import InvalidInput
from ravlm.generation.arguments import (
    Found,
    PictureList,
    Pictures,
    TextList,
    Words,
    checked_k,
    checked_words,
    given,
    is_list,
    spread,
)
from ravlm.generation.auto import GeneratorName, extractive_over, load_generator
from ravlm.generation.base import Request, abstain
from ravlm.generation.messages import last_image, read_messages
from ravlm.generation.verbs import VERBS
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import CLOSED_BOOK, Answer, Edit, Evidence, Hit, ImageSource, Message
from ravlm.retrieval.retriever import Retriever
from ravlm.search.filter_parser import Where

__all__ = ["VERBS", "RetrievalAugmentedVLM"]


class RetrievalAugmentedVLM:
    """Answers, captions, stories and talk that rest on the entries of a knowledge base.

    `generator`: "extractive", a preset ("small", ...), a folder, a hub name, an endpoint's address
    (http://host:port/v1#model), or a `Generator`. `k`: how many entries it reads; 0 is the closed
    book. `editor`: "local", a pipeline of diffusers by folder or hub name, or an `Editor`; it is
    loaded when first asked. `max_false_answers`: the share of questions about absent things that
    may be answered; by default as few as leaves nine in ten of those about present things answered.
    A list in gives a list out, in order.

    Methods raise InvalidInput for what is not allowed, NotFound and BrokenData for a picture that
    can't be read."""

    def __init__(
        self,
        kb: KnowledgeBase | None,
        generator: GeneratorName = "extractive",
        k: int = 4,
        max_false_answers: float | None = None,
        editor: EditorName = "local",
    ) -> None:
        if max_false_answers is not None and not 0 <= max_false_answers <= 1:
            raise InvalidInput(
                f"max_false_answers is {max_false_answers}; a share from 0 to 1 is needed."
            )
        self._kb, self.k, self.max_false_answers = (
            kb,
            checked_k(k) if kb is not None else 0,
            max_false_answers,
        )
        self.writer = load_generator(generator, kb)
        """The `Generator`: requests with their evidence in, answers out."""
        self._finder: Retriever | None = None
        self._editor_name = editor

    @staticmethod
    def from_backbones(
        language: str | os.PathLike[str],
        vision: str | os.PathLike[str],
        text: str | os.PathLike[str] | None = None,
        kb: KnowledgeBase | None = None,
        fusion: str | None = None,
    ) -> RetrievalAugmentedVLM:
        """A model to be trained, of parts of Transformers by folder or hub name.

        `language`: GPT-2, Llama, Qwen ..., or BERT run as a decoder, which writes; `vision`: ViT,
        DINOv2 ..., which sees; `text`: BERT ..., which reads the evidence. `fusion`:
        "cross_attention", "prompt", "marginal" or "marginal_prompt"; by default cross-attention
        where the language model has it. What is new is named in a warning. `.generator` is then a
        PreTrainedModel: `generator(pixel_values=, labels=).loss`,
        `generator.generate(pixel_values=)`. Without `kb` only k = 0 works.

        Raises NotFound, BrokenData or Mismatch for a part that can't serve.
        """
        from ravlm.generation.captioner.from_backbones import assemble

        reads = None if text is None else str(text)
        return RetrievalAugmentedVLM(
            kb, assemble(str(language), str(vision), reads, fusion, extractive_over(kb))
        )

    @property
    def kb(self) -> KnowledgeBase:
        """The base. Raises InvalidInput where there is none."""
        if self._kb is None:
            raise InvalidInput(
                "This model has no knowledge base: give kb= when it is made, or ask with k=0."
            )
        return self._kb

    @property
    def generator(self) -> Any:
        """What writes: a model of Transformers where it can be trained, else the `Generator`."""
        return self.writer.network

    @cached_property
    def editor(self) -> Editor:
        """What changes pictures."""
        return load_editor(self._editor_name)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the generator as a folder that `generator=` takes again. Raises InvalidInput for
        one that is not trained here."""
        save = getattr(self.writer, "save", None)
        if save is None:
            raise InvalidInput(
                f'The generator "{self.writer.name}" has no weights of its own to save.'
            )
        save(folder)

    @overload
    def ask(
        self,
        question: str,
        image: ImageSource | None = ...,
        k: int | None = ...,
        where: Where = ...,
        evidence: Found = ...,
    ) -> Answer: ...
    @overload
    def ask(
        self,
        question: TextList,
        image: Pictures | None = ...,
        k: int | None = ...,
        where: Where = ...,
        evidence: Found = ...,
    ) -> list[Answer]: ...
    @overload
    def ask(
        self,
        question: str,
        image: PictureList,
        k: int | None = ...,
        where: Where = ...,
        evidence: Found = ...,
    ) -> list[Answer]: ...
    def ask(
        self,
        question: Words,
        image: Pictures | None = None,
        k: int | None = None,
        where: Where = None,
        evidence: Found = None,
    ) -> Answer | list[Answer]:
        """Answer a question, about a picture or in words alone, or say that the base does not have
        the answer.

        `evidence`: what is read instead of what a search finds, one for each question.
        """
        return self._written(self._asked(question, image, k, where, evidence), question, image)

    @overload
    def caption(
        self, image: ImageSource, k: int | None = ..., where: Where = ..., evidence: Found = ...
    ) -> Answer: ...
    @overload
    def caption(
        self, image: PictureList, k: int | None = ..., where: Where = ..., evidence: Found = ...
    ) -> list[Answer]: ...
    def caption(
        self,
        image: Pictures,
        k: int | None = None,
        where: Where = None,
        evidence: Found = None,
    ) -> Answer | list[Answer]:
        """Describe a picture in a sentence, as the pictures like it are described. `evidence` as in
        `ask`."""
        return self._written(self._captioned(image, k, where, evidence), image)

    @overload
    def tell(
        self,
        image: ImageSource | None = ...,
        prompt: str | None = ...,
        k: int | None = ...,
        where: Where = ...,
    ) -> Answer: ...
    @overload
    def tell(
        self,
        image: PictureList,
        prompt: Words | None = ...,
        k: int | None = ...,
        where: Where = ...,
    ) -> list[Answer]: ...
    @overload
    def tell(
        self,
        image: ImageSource | None = ...,
        *,
        prompt: TextList,
        k: int | None = ...,
        where: Where = ...,
    ) -> list[Answer]: ...
    def tell(
        self,
        image: Pictures | None = None,
        prompt: Words | None = None,
        k: int | None = None,
        where: Where = None,
    ) -> Answer | list[Answer]:
        """Tell a short story about a picture, or about what the prompt names, each sentence with
        its evidence [1].

        A prompt in Chinese is answered in Chinese.
        """
        return self._written(self._told(image, prompt, k, where), image, prompt)

    @overload
    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        image: ImageSource | None = ...,
        k: int | None = ...,
        where: Where = ...,
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Sequence[Mapping[str, Any]]],
        image: ImageSource | None = ...,
        k: int | None = ...,
        where: Where = ...,
    ) -> list[Answer]: ...
    def chat(
        self,
        messages: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]],
        image: ImageSource | None = None,
        k: int | None = None,
        where: Where = None,
    ) -> Answer | list[Answer]:
        """Answer the last message of a talk in the OpenAI form. What the talk is about is kept from
        turn to turn: the picture that came last (or `image`), else what was named last."""
        if messages and isinstance(messages[0], Sequence) and not isinstance(messages[0], str):
            talks = [read_messages(talk) for talk in messages]  # type: ignore[arg-type]
            return self._write([self._talked(talk, image, k, where) for talk in talks])
        return self._write([self._talked(read_messages(messages), image, k, where)])[0]  # type: ignore[arg-type]

    @overload
    def edit(
        self,
        image: ImageSource,
        instruction: str,
        k: int | None = ...,
        seed: int = ...,
        evidence: Evidence | None = ...,
    ) -> Edit: ...
    @overload
    def edit(
        self,
        image: PictureList,
        instruction: Words,
        k: int | None = ...,
        seed: int = ...,
        evidence: Evidence | None = ...,
    ) -> list[Edit]: ...
    @overload
    def edit(
        self,
        image: ImageSource,
        instruction: TextList,
        k: int | None = ...,
        seed: int = ...,
        evidence: Evidence | None = ...,
    ) -> list[Edit]: ...
    def edit(
        self,
        image: Pictures,
        instruction: Words,
        k: int | None = None,
        seed: int = 0,
        evidence: Evidence | None = None,
    ) -> Edit | list[Edit]:
        """Change a picture as the instruction says, English or Chinese. Where an example is wanted
        ("like a sunset"), the `k` pictures of the base that fit it best steer the edit (by default
        twice as many as are read for an answer); `evidence`: those to look at instead.

        What is not understood, or not there, is not done: the edit's `understood` says why.
        """
        if image is None:
            raise InvalidInput("There is no picture to change; give image=.")
        instructions, images = spread(instruction, image)
        for text in instructions:
            checked_words(text, "instruction", "write what shall be changed")
        most, edits = 2 * self.k if k is None else checked_k(k), []
        for text, picture in zip(instructions, images, strict=True):
            hits = self._examples(text, most) if evidence is None else evidence.hits
            edits.append(self.editor.edit(EditRequest(picture, text, tuple(hits), seed)))  # type: ignore[arg-type]
        return edits if is_list(image) or is_list(instruction) else edits[0]

    def _examples(self, instruction: str, k: int) -> list[Hit]:
        words = self.editor.wanted(instruction) if k else ""
        return self.kb.search(text=words, k=k, modality="image") if words else []

    def evidence(
        self,
        question: Words = "",
        image: Pictures | None = None,
        k: int | None = None,
        where: Where = None,
    ) -> list[Evidence]:
        """What `ask` and `caption` would read, one for each pair of question and picture."""
        questions, images = spread(question, image)
        return self._found(questions, images, self._k(k), where)

    def search(self, *args: Any, **options: Any) -> list[Hit]:
        """`KnowledgeBase.search` of the model's base."""
        return self.kb.search(*args, **options)

    def stream_ask(
        self,
        question: str,
        image: ImageSource | None = None,
        k: int | None = None,
        where: Where = None,
    ) -> Stream[str, None, Answer]:
        """`ask`, in pieces of text as they come; returns the Answer."""
        return self._stream(self._asked(question, image, k, where)[0])

    def stream_caption(
        self, image: ImageSource, k: int | None = None, where: Where = None
    ) -> Stream[str, None, Answer]:
        """`caption`, in pieces of text as they come; returns the Answer."""
        return self._stream(self._captioned(image, k, where)[0])

    def stream_tell(
        self,
        image: ImageSource | None = None,
        prompt: str | None = None,
        k: int | None = None,
        where: Where = None,
    ) -> Stream[str, None, Answer]:
        """`tell`, in pieces of text as they come; returns the Answer."""
        return self._stream(self._told(image, prompt, k, where)[0])

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        image: ImageSource | None = None,
        k: int | None = None,
        where: Where = None,
    ) -> Stream[str, None, Answer]:
        """`chat`, in pieces of text as they come; returns the Answer."""
        return self._stream(self._talked(read_messages(messages), image, k, where))

    # requests

    def _asked(
        self,
        question: Words,
        image: Pictures | None,
        k: int | None,
        where: Where,
        evidence: Found = None,
    ) -> list[Request]:
        questions, images = spread(question, image)
        for text in questions:
            checked_words(text, "question")
        found = given(evidence, len(questions)) or self._found(questions, images, self._k(k), where)
        return [
            Request("ask", text, picture, evidence, chinese=is_chinese(text))
            for text, picture, evidence in zip(questions, images, found, strict=True)
        ]

    def _captioned(
        self, image: Pictures, k: int | None, where: Where, evidence: Found = None
    ) -> list[Request]:
        if image is None:
            raise InvalidInput("There is no picture to describe; give image=.")
        _, images = spread("", image)
        found = given(evidence, len(images)) or self._found(
            [""] * len(images), images, self._k(k), where
        )
        return [Request("caption", "", i, e) for i, e in zip(images, found, strict=True)]

    def _told(
        self, image: Pictures | None, prompt: Words | None, k: int | None, where: Where
    ) -> list[Request]:
        if image is None and prompt is None:
            raise InvalidInput("There is nothing to tell about; give image=, prompt= or both.")
        prompts, images = spread("" if prompt is None else prompt, image)
        for text in prompts if prompt is not None else []:
            checked_words(text, "prompt")
        found = self._found(prompts, images, self._k(k), where, lenient=True)
        return [
            Request("tell", text, picture, evidence, chinese=is_chinese(text))
            for text, picture, evidence in zip(prompts, images, found, strict=True)
        ]

    def _talked(
        self, messages: tuple[Message, ...], image: ImageSource | None, k: int | None, where: Where
    ) -> Request:
        picture = image if image is not None else last_image(messages)
        said = messages[-1].text
        n = self._k(k)
        evidence = (
            self._finding.of_talk([m.text for m in messages], picture, n, where)
            if n
            else CLOSED_BOOK
        )
        return Request("chat", said, picture, evidence, messages, is_chinese(said))

    def _found(
        self,
        texts: Sequence[str],
        images: Sequence[ImageSource | None],
        k: int,
        where: Where,
        lenient: bool = False,
    ) -> list[Evidence]:
        """The evidence for each pair of words and picture; `lenient`: what is nearest, if nothing
        fits."""
        if k == 0:
            return [CLOSED_BOOK] * len(texts)
        pictures = [image for image in images if image is not None]
        described = not any(texts)  # pictures alone: they are to be described
        query = self.writer.query if described else None
        reads = self.writer.reads if described else "image"
        seen = iter(self._finding.by_pictures(pictures, k, where, query, reads) if pictures else [])
        found = []
        for text, image in zip(texts, images, strict=True):
            shown = next(seen) if image is not None else None
            evidence = (
                shown
                if lenient and shown and shown.sufficient
                else self._finding.asked(text, shown, k, where)
            )
            if not evidence.hits and lenient:
                evidence = self._finding.by_likeness(text, k, where)
            found.append(evidence)
        return found

    # writing

    def _written(self, requests: Sequence[Request], *given: Any) -> Answer | list[Answer]:
        answers = self._write(requests)
        return answers if any(is_list(value) for value in given) else answers[0]

    def _write(self, requests: Sequence[Request]) -> list[Answer]:
        answers: list[Answer | None] = [self._refused(request) for request in requests]
        asked = [
            request for request, answer in zip(requests, answers, strict=True) if answer is None
        ]
        written = iter(self.writer.generate(asked))
        return [answer if answer is not None else next(written) for answer in answers]

    def _stream(self, request: Request) -> Stream[str, None, Answer]:
        refused = self._refused(request)
        if refused is not None:
            yield refused.text
            return refused
        return (yield from self.writer.stream(request))

    def _refused(self, request: Request) -> Answer | None:
        """The abstaining answer, where what is asked about is most likely not in the base."""
        evidence = request.evidence
        if request.task in ("ask", "chat") and evidence.searched and not evidence.sufficient:
            return abstain(request, "what is asked about is most likely not there")
        return None

    @property
    def _finding(self) -> Retriever:
        if self._finder is None:
            self._finder = Retriever(self.kb, self.max_false_answers)
        return self._finder

    def _k(self, k: int | None) -> int:
        return self.k if k is None else checked_k(k)
