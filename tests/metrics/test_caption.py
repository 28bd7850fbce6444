"""Caption metrics equal the reference implementations and arithmetic on paper, and check their
input."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from ravlm.data.text import is_chinese
from ravlm.errors import InvalidInput
from ravlm.metrics import (
    bleu,
    bleu_from_counts,
    caption_scores,
    cider,
    cider_frequencies,
    copy_rate,
    distinct_n,
    meteor,
    meteor_from_counts,
    rouge,
    rouge_l,
)
from ravlm.metrics.rouge import lcs_length
from ravlm.metrics.tokenization import TokenizedCorpus
from ravlm.records import Score

WORDS = [
    "a", "the", "dog", "cat", "dogs", "runs", "run", "on", "grass", ".", "red", "man", "'s", "café",
    "3.5", "the", "the", ",", "two-tone", "U.S.", "don't", "天空",
]  # fmt: skip


def random_captions(items: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Captions of few words, so that many match; some are empty or only punctuation."""
    rng = random.Random(seed)

    def caption() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))

    candidates = [caption() if i % 9 else rng.choice(["", ".", "dog"]) for i in range(items)]
    return candidates, [[caption() for _ in range(rng.randint(1, 5))] for _ in range(items)]


def flickr(folder: Path, items: int) -> tuple[list[str], list[list[str]]]:
    """A caption of the same or of another photo, against the other captions of the photo."""
    lines = (
        (folder / "flickr8k" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[:items]
    )
    texts = [json.loads(line)["texts"] for line in lines]
    candidates = [texts[(i + i % 2) % len(texts)][0] for i in range(len(texts))]
    return candidates, [each[1:] for each in texts]


def check_against_pycocoevalcap(
    candidates: list[str], references: list[list[str]], tokenize: str
) -> None:
    """The reference scorers get our tokens; test_ptb_tokenizer.py compares the tokenizers."""
    scorers = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    texts = TokenizedCorpus(candidates, references, tokenize)  # type: ignore[arg-type]
    hypotheses = {i: [line] for i, line in enumerate(texts.candidate_lines)}
    targets = dict(enumerate(texts.reference_lines))
    ours = caption_scores(candidates, references, tokenize)  # type: ignore[arg-type]
    values, items = scorers.compute_score(targets, hypotheses, verbose=0)
    for n in range(4):
        same(ours[f"bleu-{n + 1}"], values[n], items[n])
    same(ours["rouge-l"], *Rouge().compute_score(targets, hypotheses))
    same(ours["cider"], *Cider().compute_score(targets, hypotheses))


def same(score: Score, value: float, items: list[float]) -> None:
    assert score.value == pytest.approx(value, abs=1e-6)
    assert np.allclose(score.items, items, atol=1e-6)


@pytest.mark.parametrize("tokenize", ["ptb", "none"])
def test_equal_to_pycocoevalcap(tokenize: str) -> None:
    check_against_pycocoevalcap(*random_captions(400), tokenize)


def test_equal_to_pycocoevalcap_on_thousands_of_captions(shared_data: Path) -> None:
    check_against_pycocoevalcap(*flickr(shared_data, 3000), "ptb")


@pytest.mark.parametrize("kind", ["1", "2", "L"])
def test_equal_to_rouge_score(kind: str) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer([f"rouge{kind}"])
    candidates, references = random_captions(200)
    expected = [
        scorer.score_multi(r, c)[f"rouge{kind}"].fmeasure
        for c, r in zip(candidates, references, strict=True)
    ]
    score = rouge(candidates, references, kind)  # type: ignore[arg-type]
    assert np.allclose(score.items, expected)
    assert score.value == pytest.approx(np.mean(expected))
    assert "tokenize:rouge" in score.signature


@pytest.mark.parametrize(
    "text",
    ["Два кота спят на крыше", "δύο γάτες", "दो बिल्लियाँ छत पर", "قطتان على السطح", "שני חתולים",
     "屋顶上有两只猫", "屋根の上の猫", "지붕 위의 고양이", "แมวสองตัว", "mèo ngủ trên mái"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["1", "2", "L"])
def test_rouge_reads_every_script(text: str, kind: str) -> None:
    """Only a to z and digits counted, so any text in another script scored 0 with itself."""
    if kind == "2" and len(text.split()) == 1 and not is_chinese(text):
        pytest.skip("one word has no bigram")
    assert rouge([text, text], [[text], ["?", text]], kind).items == (1.0, 1.0)  # type: ignore[arg-type]
    assert rouge([text], [["ganz etwas anderes"]], kind).value == 0  # type: ignore[arg-type]


def test_rouge_of_other_scripts_on_paper() -> None:
    """One of three words is the same; of Chinese, three of five characters."""
    score = rouge(["белый кот спит", "一只白猫"], [["чёрный кот бежит"], ["一只黑猫跑"]], kind="1")
    assert score.items == pytest.approx((1 / 3, 2 * 3 / (4 + 5)))
    decomposed = unicodedata.normalize("NFD", "чёрный кот")
    assert rouge([decomposed], [["чёрный кот"]]).value == 1


def test_chinese_as_english_words_is_said() -> None:
    """BLEU-4 of a Chinese text with itself was 0 by the default tokenization, silently."""
    text = "两只猫在屋顶上睡觉"
    with pytest.warns(UserWarning, match='1 of 1 items are Chinese.*pass tokenize="zh"'):
        assert bleu([text], [[text]]).value < 0.001
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bleu([text], [[text]], tokenize="zh").value == pytest.approx(1)
        bleu(["a dog"] * 3, [["a dog"], ["a cat"], [text]])  # a few are no reason to warn


@pytest.mark.parametrize("copies", [1, 3])
def test_cider_without_weights_says_so(copies: int) -> None:
    """One item, or the same references for all: CIDEr was 0 for a perfect caption, silently."""
    candidates, references = ["two cats sleep"] * copies, [["two cats sleep"]] * copies
    with pytest.warns(UserWarning, match=rf"in every item \({copies}\).*cider_frequencies"):
        assert cider(candidates, references).value == 0
    frequencies = cider_frequencies([*references, ["a red car"]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cider(candidates, references, frequencies=frequencies).value > 4
        assert cider([*candidates, "a car"], [*references, ["a red car"]]).value > 0


def test_bleu_on_paper() -> None:
    """2 of 3 words and 1 of 2 bigrams match; the closest reference is one word longer."""
    score = bleu(
        ["the dog sat"],
        [["the dog ran off", "a very big dog was seen there today"]],
        n=2,
        tokenize="none",
    )
    assert score.value == pytest.approx(math.sqrt(2 / 3 * 1 / 2) * math.exp(1 - 4 / 3))
    assert score.counts is not None
    assert score.counts.tolist() == [[3, 4, 3, 2, 2, 1]]


def test_corpus_bleu_is_not_the_mean_of_its_items() -> None:
    score = bleu(
        ["the dog ran over the hill", "cat"], [["the dog ran over the hill"], ["a cat sat"]]
    )
    assert score.counts is not None
    assert score.value == pytest.approx(float(bleu_from_counts(score.counts.sum(axis=0))))
    assert abs(score.value - np.mean(score.items)) > 0.1


def test_resampled_counts_are_the_score_of_the_resample() -> None:
    candidates, references = random_captions(60)
    draw = np.random.default_rng(0).integers(0, 60, 60)
    again = [candidates[i] for i in draw], [references[i] for i in draw]
    metrics: list[tuple[Callable[..., Score], Callable[[np.ndarray], np.ndarray]]] = [
        (bleu, bleu_from_counts),
        (meteor, meteor_from_counts),
    ]
    for metric, from_counts in metrics:
        counts = metric(candidates, references).counts
        assert counts is not None
        assert float(from_counts(counts[draw].sum(axis=0))) == pytest.approx(metric(*again).value)


def test_rouge_l_on_paper() -> None:
    """Recall 3 of 4, precision 3 of 3, weighted with beta 1.2."""
    assert rouge_l(["the cat sat"], [["the cat just sat"]]).value == pytest.approx(
        2.44 * 0.75 / (0.75 + 1.44)
    )


def test_common_subsequence_equals_the_table() -> None:
    """The row of bits once lost a carry in long texts."""
    rng = random.Random(1)
    for _ in range(200):
        first, second = (rng.choices("abcd", k=rng.randint(0, 90)) for _ in range(2))
        table = np.zeros((len(first) + 1, len(second) + 1), int)
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                table[i + 1, j + 1] = (
                    table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
                )
        assert lcs_length(first, second) == table[-1, -1]


def test_frozen_frequencies_score_a_subset_like_the_whole_set() -> None:
    candidates, references = random_captions(50)
    whole = cider(candidates, references)
    frozen = cider_frequencies(references)
    subset = cider(candidates[10:13], references[10:13], frequencies=frozen)
    assert subset.items == pytest.approx(whole.items[10:13])
    assert cider(candidates[10:13], references[10:13]).items != pytest.approx(subset.items)
    assert "own-50" in whole.signature
    assert "frozen-50" in subset.signature
    with pytest.raises(InvalidInput, match='counted with tokenize "ptb", the texts with "none"'):
        cider(candidates, references, tokenize="none", frequencies=frozen)


def test_meteor_on_paper() -> None:
    """dogs ~ dog by stem (0.6), runs exactly; "the" is a function word. Two chunks."""
    score = meteor(["the dogs fast runs"], [["dog runs"]], tokenize="none")
    precision = 0.75 * 1.6 / (0.75 * 3 + 0.25)
    recall = 0.75 * 1.6 / (0.75 * 2)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert score.value == pytest.approx(mean * (1 - 0.6 * (2 / 2) ** 0.2))
    assert score.counts is not None
    assert score.counts.tolist() == [[3, 1, 2, 0, 1, 0, 1, 0, 1, 0, 1, 0, 2]]


def test_meteor_prefers_few_chunks_and_exact_words() -> None:
    """ "the dog" stays one chunk despite the first "the"; "dogs" matches "dogs", not "dog"."""
    chunks = meteor(["the big the dog"], [["a the dog"]], tokenize="none").counts
    assert chunks is not None
    assert chunks[0, -1] == 1
    exact = meteor(["dog x x dogs"], [["dogs"]], tokenize="none").counts
    assert exact is not None
    assert exact[0, 4:12].tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_meteor_of_equal_texts_is_one() -> None:
    assert meteor(
        ["the dog runs", "天空 蓝色"], [["the dog runs"], ["天空 蓝色"]], tokenize="none"
    ).items == (1.0, 1.0)


def test_meteor_equals_its_program_except_for_ambiguous_stems(shared_data: Path) -> None:
    """If a stem has two partners the program may take none: 1 or 2 of 100 captions differ."""
    package = pytest.importorskip("pycocoevalcap.meteor.meteor")
    program = shutil.which("java")
    if program is None:
        pytest.skip("Java is not installed; only it can run the METEOR program")
    jar = Path(package.__file__).parent / package.METEOR_JAR
    function = ZipFile(jar).read("function/english.words").decode().split()
    candidates, references = flickr(shared_data, 300)
    texts = TokenizedCorpus(candidates, references)
    score_requests = "".join(
        f"SCORE ||| {' ||| '.join(lines)} ||| {line}\n"
        for line, lines in zip(texts.candidate_lines, texts.reference_lines, strict=True)
    )
    command = [
        program,
        "-jar",
        jar,
        "-",
        "-",
        "-stdio",
        "-l",
        "en",
        "-lower",
        "-m",
        "exact stem",
        "-w",
        "1.0 0.6",
    ]
    counts = subprocess.run(
        command, input=score_requests, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    eval_request = f"EVAL ||| {' ||| '.join(counts)}\n"
    lines = subprocess.run(
        command, input=eval_request, capture_output=True, text=True, check=True
    ).stdout.split()
    *items, value = map(float, lines)
    score = meteor(candidates, references, function_words=function)
    assert np.mean(np.abs(np.array(items) - score.items) < 1e-6) > 0.97
    assert score.value == pytest.approx(value, abs=2e-3)
    assert (
        abs(meteor(candidates, references).value - value) < 0.02
    )  # with the built-in function words


def test_meteor_of_a_repeating_generator_is_fast() -> None:
    """A generator that repeats one word gave the aligner a combinatorial number of paths."""
    score = meteor(["the dog " * 100], [["the dog " * 30]])
    assert 0 < score.value < 1


def test_chinese_is_segmented_into_words() -> None:
    """A run of Chinese is one Penn Treebank token, so only equal sentences scored."""
    candidates, references = (
        ["一只猫坐在草地上", "蓝色的天空"],
        [["草地上有一只猫"], ["天空是蓝色的"]],
    )
    apart, whole = (bleu(candidates, references, n=1, tokenize=t).value for t in ("zh", "ptb"))
    assert apart > 0.5
    assert whole < 0.01
    assert meteor(candidates, references, tokenize="zh").value > 0.3


def test_all_together_is_each_alone() -> None:
    candidates, references = random_captions(30)
    together = caption_scores(candidates, references)
    alone = {
        **{f"bleu-{n}": bleu(candidates, references, n) for n in (1, 2, 3, 4)},
        "rouge-l": rouge_l(candidates, references),
        "cider": cider(candidates, references),
        "meteor": meteor(candidates, references),
    }
    assert list(together) == list(alone)
    for name, score in alone.items():
        assert (together[name].value, together[name].items) == (score.value, score.items)
        assert together[name].signature == score.signature
        assert score.signature.startswith(name if name not in ("cider", "meteor") else f"{name}-")
        assert "tokenize:ptb" in score.signature
    assert list(caption_scores(candidates, references, names=["cider", "bleu-2"])) == [
        "bleu-2",
        "cider",
    ]
    with pytest.raises(InvalidInput, match=r'no caption metric "ciderr"\. Did you mean "cider"'):
        caption_scores(candidates, references, names=["ciderr"])


def test_distinct_n_on_paper() -> None:
    score = distinct_n(["a dog a dog", "a dog"], n=2, tokenize="none")
    assert score.value == pytest.approx(2 / 4)
    assert score.items == pytest.approx((2 / 3, 1.0))


def test_copy_rate_counts_ngrams_of_the_own_evidence() -> None:
    score = copy_rate(
        ["a red dog runs here", "a red dog runs", ""], [["see a red dog runs"], [], ["x"]], n=4
    )
    assert score.items == (0.5, 0.0, 0.0)
    assert score.value == pytest.approx(1 / 3)


METRICS = (bleu, rouge_l, rouge, cider, meteor)
BAD = {
    "swapped": (
        [["a dog"], ["a cat"]],
        ["a dog", "a cat"],
        r"candidates\[0\] is list \['a dog'\].*swapped\?",
    ),
    "a text for candidates": (
        "a dog",
        [["a dog"]],
        "candidates is the text 'a dog'; it must be a list of texts",
    ),
    "a text for references": (
        ["a dog"],
        "a dog",
        "references is the text 'a dog'; it must be a list of lists",
    ),
    "texts for lists": (
        ["a dog", "a cat"],
        ["a dog", "a cat"],
        r"references\[0\] is the text 'a dog'.*even for",
    ),
    "no references": (["a dog", "a cat"], [["a dog"], []], r"references\[1\] is empty"),
    "a blank reference": (
        ["a dog", "a cat"],
        [["a dog"], ["a cat", " \n"]],
        r"references\[1\]\[1\] is blank",
    ),
    "nothing": ([], [], "candidates is empty"),
    "lengths": (
        ["a dog", "a cat"],
        [["a dog"]],
        r"references must have the same length \(2 and 1\)",
    ),
    "no text": (
        ["a dog", None],
        [["a dog"], ["a cat"]],
        r"candidates\[1\] is NoneType None; it must be a text",
    ),
    "a number": (["a dog"], [[3.5]], r"references\[0\]\[0\] is float 3.5; it must be a text"),
    "a mapping": ({"x": "a dog"}, [["a dog"]], "candidates is dict"),
    "a set": (["a dog"], {("a dog",)}, "references is set"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)
def test_bad_input_is_refused(metric: Callable[..., Score], case: str) -> None:
    candidates, references, message = BAD[case]
    with pytest.raises(InvalidInput, match=message):
        metric(candidates, references)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r'tokenize is "pbt"; allowed: "ptb", "zh", "none"\. Did you mean "ptb"'
    ):
        bleu(["a"], [["a"]], tokenize="pbt")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="n is 5"):
        bleu(["a"], [["a"]], n=5)
    with pytest.raises(InvalidInput, match='kind is "3"; allowed: 1, 2, L'):
        rouge(["a"], [["a"]], kind="3")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="n is 0"):
        distinct_n(["a"], n=0)
    with pytest.raises(InvalidInput, match="evidence must be a list of 1 lists"):
        copy_rate(["a"], ["a"])


@pytest.mark.parametrize("tokenize", ["ptb", "zh", "none"])
def test_any_unicode_has_a_score(tokenize: str) -> None:
    marks = [
        "e\u0301té 👩‍👩‍👧 \u200b",
        "\ud800 lone",
        "ﬀ ½ ①",
        "\u0000\x1f\ufeff",
        "İ ß ſ",
        "\u2028",
    ]
    nasty = [*marks, "مرحبا بالعالم", "天空 sky天空"]
    for score in caption_scores(nasty, [[text + " x"] for text in nasty], tokenize).values():  # type: ignore[arg-type]
        assert len(score.items) == len(nasty)
        assert all(math.isfinite(item) for item in (*score.items, score.value))
