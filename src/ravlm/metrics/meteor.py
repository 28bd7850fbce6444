"""METEOR in the form of its version 1.5: words aligned by themselves and by their stems, function
words weighed down.

Denkowski and Lavie 2014. With their function words it equals their program with the modules "exact
stem", but for the few captions where that leaves an ambiguous stem unmatched. Its synonyms and
paraphrases need data that no light package brings; scores are lower than with them. Knows no task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ravlm.data.chinese_lexicon import FUNCTION, PARTICLES
from ravlm.metrics.tokenization import TokenizedCorpus, TokenizerName
from ravlm.records import Score

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any no each every both all either neither another such what which whose
    i me my mine myself we us our ours ourselves you your yours yourself he him his himself she her hers herself it its
    itself they them their theirs themselves who whom one ones someone something anyone anything there here
    of in on at by for with about against between into through during before after above below to from up down out off
    over under near behind beside beneath across along around among toward towards onto upon within without inside
    outside past next as like than and or but nor so if while because when where whether though although until since
    am is are was were be been being have has had having do does did doing will would shall should can could may might
    must not 's 're 've 'll 'd 'm n't how why then also just very too
    """.split()  # noqa: SIM905
)
"""English words that hold a sentence together; Chinese ones come from `data.readings`."""

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_TENTHS = (10, 6)
"""What a word counts that is matched as it is, and by its stem; whole numbers, so that sums compare
exactly."""
_BEAM = 40


def meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: TokenizerName = "ptb",
    function_words: Iterable[str] | None = None,
) -> Score:
    """METEOR of the whole corpus, 0 to 1, from summed counts as in the program; `items` hold each
    text's own.

    `function_words` replaces the built-in list. `counts` (items, 13): words of the candidate and of
    its best reference, each as content and function words; matched ones likewise, of each stage;
    chunks. `meteor_from_counts` makes the value of their sum, and so of any resample."""
    return corpus_meteor(TokenizedCorpus(candidates, references, tokenize), function_words)


def corpus_meteor(texts: TokenizedCorpus, function_words: Iterable[str] | None = None) -> Score:
    """`meteor` of texts that are tokenised."""
    function = (
        frozenset(function_words)
        if function_words is not None
        else FUNCTION_WORDS | FUNCTION | PARTICLES
    )
    known: dict[str, str] = {}
    stem = _english_stem()

    def stems(tokens: Sequence[str]) -> list[str]:
        for token in tokens:
            if token not in known:
                known[token] = stem(token)
        return [known[token] for token in tokens]

    counts = []
    for candidate, references in zip(texts.candidates, texts.references, strict=True):
        ours = stems(candidate)
        rows = [_counts(_Pair(candidate, r, ours, stems(r)), function) for r in references]
        counts.append(rows[int(np.argmax(meteor_from_counts(np.array(rows))))])
    table = np.array(counts, np.int64)
    return Score(
        value=float(meteor_from_counts(table.sum(axis=0))),
        items=tuple(meteor_from_counts(table).tolist()),
        signature=texts.signature(
            "meteor-1.5-form",
            "exact+stem",
            f"function:{'own' if function_words is None else 'given'}-{len(function)}",
        ),
        counts=table,
    )


def meteor_from_counts(counts: np.ndarray) -> np.ndarray:
    """METEOR of summed counts: (..., 13) to (...)."""
    lengths, stages, chunks = counts[..., :4], counts[..., 4:12], counts[..., 12]
    share = np.array([_DELTA, 1 - _DELTA])
    matched = stages.reshape(*stages.shape[:-1], 2, 2, 2)  # stage, side, content or function
    weighted = np.einsum("...gsk,g,k->...s", matched, np.array(_TENTHS) / 10, share)
    whole = lengths.reshape(*lengths.shape[:-1], 2, 2) @ share
    precision, recall = np.moveaxis(weighted / np.maximum(whole, 1e-12), -1, 0)
    mean = precision * recall / np.maximum(_ALPHA * precision + (1 - _ALPHA) * recall, 1e-12)
    words = matched.sum(axis=(-3, -2, -1)) / 2
    same = (chunks == 1) & (2 * words == lengths.sum(axis=-1))
    torn = np.where(same, 0, chunks / np.maximum(words, 1e-12))
    return mean * (1 - _GAMMA * torn**_BETA)


class _Pair(NamedTuple):
    candidate: Sequence[str]
    reference: Sequence[str]
    candidate_stems: Sequence[str]
    reference_stems: Sequence[str]


def _counts(pair: _Pair, function: frozenset[str]) -> list[int]:
    counts = [0] * 13
    for word in pair.candidate:
        counts[word in function] += 1
    for word in pair.reference:
        counts[2 + (word in function)] += 1
    previous = (-2, -2)
    for ours, theirs in _align(pair):
        one, other = pair.candidate[ours], pair.reference[theirs]
        stage = 4 if one == other else 8
        counts[stage + (one in function)] += 1
        counts[stage + 2 + (other in function)] += 1
        counts[12] += (ours - 1, theirs - 1) != previous
        previous = (ours, theirs)
    return counts


_Path = tuple[int, int, int, int, tuple[tuple[int, int], ...]]
"""Part of an alignment, smaller is better: minus the weights matched, chunks, how far apart the
matched places are; the bits of the reference's words that are matched; the links."""


def _align(pair: _Pair) -> tuple[tuple[int, int], ...]:
    """The places that match, in the candidate's order: as much as can be, in few chunks, at like
    places.

    Only words of one stem compete with each other, so a word is left out only where the candidate
    has it more often."""
    places: dict[str, list[int]] = {}
    for place, stem in enumerate(pair.reference_stems):
        places.setdefault(stem, []).append(place)
    more = Counter(stem for stem in pair.candidate_stems if stem in places)
    paths: list[_Path] = [(0, 0, 0, 0, ((-2, -2),))]
    for ours, stem in enumerate(pair.candidate_stems):
        if stem not in places:
            continue
        grown: dict[tuple[int, tuple[int, int]], _Path] = {}
        for path in paths:
            for longer in _extensions(
                path, pair, ours, places[stem], more[stem] > len(places[stem])
            ):
                state = (longer[3], longer[4][-1])
                if state not in grown or longer < grown[state]:
                    grown[state] = longer
        paths = list(grown.values())
        if len(paths) > _BEAM:
            paths = sorted(paths)[:_BEAM]
    return min(paths)[4][1:]


def _extensions(
    path: _Path, pair: _Pair, ours: int, options: list[int], may_skip: bool
) -> list[_Path]:
    unlike, chunks, distance, taken, links = path
    follows = (links[-1][0] + 1, links[-1][1] + 1)
    found = [path] if may_skip else []
    for theirs in options:
        if not taken >> theirs & 1:
            tenths = _TENTHS[pair.candidate[ours] != pair.reference[theirs]]
            link = (ours, theirs)
            torn = chunks + (link != follows)
            found.append(
                (
                    unlike - tenths,
                    torn,
                    distance + abs(ours - theirs),
                    taken | 1 << theirs,
                    (*links, link),
                )
            )
    return found


def _english_stem() -> Callable[[str], str]:
    from snowballstemmer import stemmer  # pure Python, a core dependency

    return stemmer("english").stemWord
