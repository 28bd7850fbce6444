"""RetrievalAugmentedVLM: a knowledge base, a generator and an editor behind a few verbs.

Each verb of `VERBS` builds requests, retrieves their evidence in one call and generates answers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, overload

from ravlm import runtime
from ravlm.errors import InvalidInput
from ravlm.generation.auto import ChatOptions, GeneratorName, extractive_over, load_generator
from ravlm.generation.base import VerbName
from ravlm.generation.inputs import (
    EditOptions,
    EvidenceBatch,
    ImageBatch,
    Images,
    Options,
    SearchScope,
    TextBatch,
    Texts,
    broadcast,
    check_text,
    checked_k,
    checked_rate,
    is_batch,
    validated_evidence,
)
from ravlm.generation.messages import Conversation
from ravlm.generation.verbs import (
    VERBS,
    RequestBatch,
    build_requests,
    generate_answers,
    retrieve_evidence,
    stream_answer,
)
from ravlm.knowledge.base import KnowledgeBase
from ravlm.ocr.base import OcrMode, OcrOptions
from ravlm.records import CLOSED_BOOK, Answer, AnswerStream, Edit, Evidence, Hit, ImageSource
from ravlm.retrieval.image_copies import ImageProgress
from ravlm.retrieval.retriever import Retriever
from ravlm.search.filter_parser import Where

if TYPE_CHECKING:
    from ravlm.editing.auto import EditorName
    from ravlm.editing.base import Editor

__all__ = ["VERBS", "RetrievalAugmentedVLM"]

K: TypeAlias = "int | None"
Strictness: TypeAlias = "bool | None"
Image: TypeAlias = "ImageSource | None"
Answers: TypeAlias = "Answer | list[Answer]"
PathOrName: TypeAlias = "str | os.PathLike[str]"


class RetrievalAugmentedVLM:
    """Answers, captions, stories and conversations based on the entries of a knowledge base.

    A list in gives a list out, in order. Methods raise InvalidInput for an argument that is not
    allowed, NotFound and BrokenData for an image that cannot be read.

    >>> model = RetrievalAugmentedVLM(kb)
    >>> model.ask("What is the animal in the picture?", image="cat.jpg").citations
    ('cat',)
    """

    def __init__(
        self,
        kb: KnowledgeBase | PathOrName | None,
        generator: GeneratorName = None,
        k: int = 4,
        max_false_answers: float | None = None,
        editor: EditorName = "local",
        base_only: bool = True,
        progress: ImageProgress | None = None,
        ocr: OcrMode | OcrOptions = "auto",
        **options: Unpack[ChatOptions],
    ) -> None:
        """`kb`: a base or its path. `generator`: None for what measures best for each verb among
        what is installed, "extractive", "starter", a preset ("small", ...), a folder, a hub name,
        an endpoint (http://host:port/v1#model), or a `Generator`.

        `k`: number of entries the generator reads; 0 is the closed book. `max_false_answers`:
        maximum false-answer rate on questions the base cannot answer, 0 to 1; the default threshold
        keeps 90 % of the answerable ones. `editor`: "local", a diffusers pipeline by folder or hub
        name, or an `Editor`; it is loaded on first use. `base_only`: decline what the base does not
        support; with False a chat model may go on by itself, and `trace["closed_book"]` is true.
        `options` are for chat models that are given by name. `max_tokens`: limit of a reply; the
        default depends on the verb. `quantize`: "4bit" or "8bit", on an NVIDIA GPU. `device_map`:
        "auto" spreads a model over several devices. `progress` is called with the images done and
        their total while the base is calibrated: now, if `kb` was just changed, or when needed.
        `ocr`: "auto" reads the text on the image of a question if the image alone leaves doubt and
        the extra `ocr` is installed; or "always", "never".
        """
        if isinstance(kb, str | os.PathLike):
            kb = KnowledgeBase.open(kb)
        self._kb = kb
        self.k = checked_k(k) if kb is not None else 0
        self.max_false_answers = checked_rate(max_false_answers, "max_false_answers")
        self.base_only, self._progress, self._ocr = base_only, progress, OcrOptions.of(ocr)
        self.generator: Any = load_generator(generator, kb, **options)
        """The `Generator` that writes. A trainable one also behaves as a Transformers model."""
        self.generator.check_reachable()
        self._editor_name = editor
        if kb is not None and (kb.report.added or kb.report.updated):
            self._retriever.calibrate()

    @staticmethod
    def from_backbones(
        language: PathOrName,
        vision: PathOrName,
        text: PathOrName | None = None,
        kb: KnowledgeBase | None = None,
        fusion: str | None = None,
        seed: int = 0,
    ) -> RetrievalAugmentedVLM:
        """Build a trainable model from Transformers models, each a folder or a hub name.

        `language` writes (GPT-2, Llama, Qwen ..., or BERT run as a decoder), `vision` encodes the
        image (ViT, DINOv2 ...), `text` encodes the evidence (BERT ...). `fusion`: see
        `ravlm.fusion`; the default is cross-attention if the language model has it. Newly
        initialized layers are drawn by `seed` and listed in a warning. Without `kb` only k = 0
        works.

        Then `model.generator(pixel_values=, labels=).loss` and
        `model.generator.generate(pixel_values=)` work as for a Transformers model. Raises NotFound,
        BrokenData or Mismatch for a model that cannot be used.
        """
        runtime.require_torch("A model from backbones")
        from ravlm.generation.captioner.from_backbones import captioner_from_backbones

        text_tower = None if text is None else str(text)
        generator = captioner_from_backbones(
            str(language), str(vision), text_tower, fusion, extractive_over(kb), seed
        )
        return RetrievalAugmentedVLM(kb, generator)

    @property
    def kb(self) -> KnowledgeBase:
        """The knowledge base. Raises InvalidInput if there is none."""
        if self._kb is None:
            raise InvalidInput("This model has no knowledge base; pass kb=, or use k=0.")
        return self._kb

    @cached_property
    def editor(self) -> Editor:
        """The editor, loaded on first use."""
        from ravlm.editing.auto import load_editor

        return load_editor(self._editor_name)

    def save(self, folder: PathOrName) -> None:
        """Write the generator to a folder that `generator=` accepts.

        Raises InvalidInput for a generator without weights of its own.
        """
        save = getattr(self.generator, "save", None)
        if save is None:
            raise InvalidInput(f'The generator "{self.generator.name}" has no weights to save.')
        save(folder)

    @overload
    def ask(self, question: str, image: Image = ..., **options: Unpack[Options]) -> Answer: ...
    @overload
    def ask(
        self, question: TextBatch, image: Images = ..., **options: Unpack[Options]
    ) -> list[Answer]: ...
    @overload
    def ask(self, question: str, image: ImageBatch, **options: Unpack[Options]) -> list[Answer]: ...
    def ask(
        self,
        question: str | TextBatch,
        image: Images = None,
        k: K = None,
        where: Where = None,
        evidence: EvidenceBatch | None = None,
        base_only: Strictness = None,
    ) -> Answers:
        """Answer a question, with or without an image; abstain if the base has no answer.

        `evidence`: read this instead of searching the base, one for each question. `base_only`: as
        in `RetrievalAugmentedVLM`, for this call.
        """
        return self.answer("ask", question, image, k, where, evidence, base_only)

    @overload
    def caption(self, image: ImageSource, **options: Unpack[Options]) -> Answer: ...
    @overload
    def caption(self, image: ImageBatch, **options: Unpack[Options]) -> list[Answer]: ...
    def caption(
        self,
        image: ImageSource | ImageBatch,
        k: K = None,
        where: Where = None,
        evidence: EvidenceBatch | None = None,
        base_only: Strictness = None,
    ) -> Answers:
        """Describe an image in a sentence, as similar images are described.

        `evidence` and `base_only` as in `ask`.
        """
        return self.answer("caption", None, image, k, where, evidence, base_only)

    @overload
    def tell(
        self, image: Image = ..., prompt: str | None = ..., **options: Unpack[SearchScope]
    ) -> Answer: ...
    @overload
    def tell(
        self, image: ImageBatch, prompt: Texts = ..., **options: Unpack[SearchScope]
    ) -> list[Answer]: ...
    @overload
    def tell(
        self, image: Image = ..., *, prompt: TextBatch, **options: Unpack[SearchScope]
    ) -> list[Answer]: ...
    def tell(
        self,
        image: Images = None,
        prompt: Texts = None,
        k: K = None,
        where: Where = None,
        base_only: Strictness = None,
    ) -> Answers:
        """Tell a short story about an image, or about the subject of the prompt.

        Each sentence cites its evidence, as in [1]. A Chinese prompt gives a Chinese story.
        """
        return self.answer("tell", prompt, image, k, where, base_only=base_only)

    @overload
    def chat(
        self, messages: Conversation, image: Image = ..., **options: Unpack[SearchScope]
    ) -> Answer: ...
    @overload
    def chat(
        self, messages: Sequence[Conversation], image: Image = ..., **options: Unpack[SearchScope]
    ) -> list[Answer]: ...
    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        image: Image = None,
        k: K = None,
        where: Where = None,
        base_only: Strictness = None,
    ) -> Answers:
        """Answer the last message of a conversation in the OpenAI form.

        The subject carries over from turn to turn: an entity that the user named, else the last
        image (or `image`). Several images of one message need a generator that reads several.
        """
        return self.answer("chat", messages, image, k, where, base_only=base_only)

    def stream_ask(
        self, question: str, image: Image = None, **options: Unpack[SearchScope]
    ) -> AnswerStream:
        """Yield the text of `ask` in pieces; the generator returns the Answer."""
        return self.stream("ask", question, image, **options)

    def stream_caption(self, image: ImageSource, **options: Unpack[SearchScope]) -> AnswerStream:
        """Yield the text of `caption` in pieces; the generator returns the Answer."""
        return self.stream("caption", None, image, **options)

    def stream_tell(
        self, image: Image = None, prompt: str | None = None, **options: Unpack[SearchScope]
    ) -> AnswerStream:
        """Yield the text of `tell` in pieces; the generator returns the Answer."""
        return self.stream("tell", prompt, image, **options)

    def stream_chat(
        self, messages: Conversation, image: Image = None, **options: Unpack[SearchScope]
    ) -> AnswerStream:
        """Yield the text of `chat` in pieces; the generator returns the Answer."""
        return self.stream("chat", messages, image, **options)

    def answer(
        self,
        verb: VerbName,
        text: Any = None,
        image: Any = None,
        k: K = None,
        where: Where = None,
        evidence: EvidenceBatch | None = None,
        base_only: Strictness = None,
    ) -> Any:
        """Carry out a verb of `VERBS`; `text` is its question, prompt or messages.

        Return an Answer, or a list of them for a batch. Items of a batch may be None where the verb
        does not require them.
        """
        batch = self.requests(verb, text, image, k, where, evidence, base_only)
        answers = generate_answers(self.generator, batch.requests)
        return answers if batch.is_batch else answers[0]

    def stream(
        self,
        verb: VerbName,
        text: Any = None,
        image: Any = None,
        k: K = None,
        where: Where = None,
        base_only: Strictness = None,
    ) -> AnswerStream:
        """Carry out a verb for one request, and yield the text in pieces.

        The evidence is retrieved at once, the text is generated while it is iterated; the generator
        returns the Answer.
        """
        batch = self.requests(verb, text, image, k, where, base_only=base_only)
        return stream_answer(self.generator, batch.requests[0])

    def requests(
        self,
        verb: VerbName,
        text: Any = None,
        image: Any = None,
        k: K = None,
        where: Where = None,
        evidence: EvidenceBatch | None = None,
        base_only: Strictness = None,
    ) -> RequestBatch:
        """Return the requests of a verb with their evidence, as the generator reads them."""
        base_only = self.base_only if base_only is None else base_only
        batch = build_requests(verb, text, image, base_only)
        sources = validated_evidence(evidence, len(batch.requests))
        k = self.k if k is None else checked_k(k)
        if sources is None and k == 0:
            sources = [CLOSED_BOOK] * len(batch.requests)
        elif sources is None:
            sources = retrieve_evidence(self._retriever, self.generator, batch.requests, k, where)
        return batch.with_evidence(sources)

    def retrieve(
        self, text: Texts = None, image: Images = None, k: K = None, where: Where = None
    ) -> list[Evidence]:
        """Return what `ask` would read for each pair of text and image; without a text, `caption`.

        >>> model.retrieve("How tall is the Eiffel Tower?")[0].subject
        'Eiffel Tower'
        """
        batch = self.requests("caption" if text is None else "ask", text, image, k, where)
        return [request.evidence for request in batch.requests]

    def search(self, *args: Any, **options: Any) -> list[Hit]:
        """Search the model's base; see `KnowledgeBase.search`."""
        return self.kb.search(*args, **options)

    @cached_property
    def _retriever(self) -> Retriever:
        return Retriever(self.kb, self.max_false_answers, self._progress, self._ocr)

    @overload
    def edit(
        self, image: ImageSource, instruction: str, **options: Unpack[EditOptions]
    ) -> Edit: ...
    @overload
    def edit(
        self, image: ImageBatch, instruction: str | TextBatch, **options: Unpack[EditOptions]
    ) -> list[Edit]: ...
    @overload
    def edit(
        self, image: ImageSource, instruction: TextBatch, **options: Unpack[EditOptions]
    ) -> list[Edit]: ...
    def edit(
        self,
        image: ImageSource | ImageBatch,
        instruction: str | TextBatch,
        k: K = None,
        seed: int = 0,
        evidence: Evidence | None = None,
    ) -> Edit | list[Edit]:
        """Change an image as the instruction says, in English or Chinese.

        Where the instruction names an example ("like a sunset"), the k entries that match it best
        guide the edit (by default twice as many as an answer reads), or those of `evidence`. If the
        instruction is not understood, or its object is not in the image, nothing is changed: the
        edit's `understood` says why.
        """
        from ravlm.editing.base import EditRequest

        if image is None:
            raise InvalidInput("There is no image to edit; give image=.")
        pairs = broadcast(instruction, image, is_batch(instruction))
        for text, _ in pairs:
            check_text(text, "instruction", "write what to change")
        edits = []
        for text, source in pairs:
            hits = evidence.hits if evidence is not None else self._examples(text, k)
            edits.append(self.editor.edit(EditRequest(source, text, tuple(hits), seed)))
        return edits if is_batch(image) or is_batch(instruction) else edits[0]

    def _examples(self, instruction: str, k: K) -> list[Hit]:
        k = 2 * self.k if k is None else checked_k(k)
        query = self.editor.retrieval_query(instruction) if k else ""
        return self.kb.search(text=query, k=k, modality="image") if query else []
