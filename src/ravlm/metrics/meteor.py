"""METEOR 1.5 with exact and stem matches, function words weighted down (Denkowski and Lavie 2014).

With the function words of the reference program it equals that program with the modules "exact
stem", except for the few captions in which the program leaves an ambiguous stem unmatched. The
program's synonyms and paraphrases need data that no light package has; scores are lower than with
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ravlm.data.chinese_lexicon import FUNCTION_CHARACTERS, PARTICLES
from ravlm.metrics.tokenization import TokenizedCorpus, TokenizerName
from ravlm.records import Score

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any no each every both all either neither another such
    what which whose
    i me my mine myself we us our ours ourselves you your yours yourself he him his himself
    she her hers herself it its itself they them their theirs themselves who whom one ones
    someone something anyone anything there here
    of in on at by for with about against between into through during before after above below
    to from up down out off over under near behind beside beneath across along around among
    toward towards onto upon within without inside outside past next as like than
    and or but nor so if while because when where whether though although until since
    am is are was were be been being have has had having do does did doing will would shall
    should can could may might must not 's 're 've 'll 'd 'm n't how why then also just very too
    """.split()  # noqa: SIM905
)
"""English function words; the Chinese ones come from `ravlm.data.chinese_lexicon`."""

_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75  # parameters of METEOR 1.5 for English
_EXACT_WEIGHT, _STEM_WEIGHT = 10, 6
"""Weights of a match in tenths: whole numbers, so that sums compare exactly."""
_BEAM_SIZE = 40

# Columns of the counts: see `meteor`.
_REFERENCE_WORDS = 2
_EXACT_MATCHES = 4
_STEM_MATCHES = 8
_CHUNKS = 12


def meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: TokenizerName = "ptb",
    function_words: Iterable[str] | None = None,
) -> Score:
    """Compute METEOR of the whole corpus, 0 to 1, from summed counts.

    Reference implementation: the METEOR 1.5 program with `-m "exact stem"`. Tokenization: Penn
    Treebank, lower-cased, without punctuation; "zh" for Chinese words, "none" for white space.

    `function_words` replaces the built-in list. `items` are the scores of the single texts.
    `counts` (items, 13): content and function words of the candidate, then of its best reference
    (4); matched words of candidate and reference likewise, exact (4) and by stem (4); chunks (1).
    `meteor_from_counts` computes the value from their sum, also for a resample.
    """
    return corpus_meteor(TokenizedCorpus(candidates, references, tokenize), function_words)


def corpus_meteor(corpus: TokenizedCorpus, function_words: Iterable[str] | None = None) -> Score:
    """Compute `meteor` of texts that are tokenized already."""
    if function_words is None:
        origin = "own"
        function = FUNCTION_WORDS | FUNCTION_CHARACTERS | PARTICLES
    else:
        origin = "given"
        function = frozenset(function_words)
    stems = _Stems()
    best_counts = []
    for candidate, references in zip(corpus.candidates, corpus.references, strict=True):
        rows = [
            _counts(
                _StemmedPair(candidate, reference, stems(candidate), stems(reference)), function
            )
            for reference in references
        ]
        best_counts.append(rows[int(np.argmax(meteor_from_counts(np.array(rows))))])
    counts = np.array(best_counts, np.int64)  # (items, 13)
    return Score(
        value=float(meteor_from_counts(counts.sum(axis=0))),
        items=tuple(meteor_from_counts(counts).tolist()),
        signature=corpus.signature(
            "meteor-1.5-form", "exact+stem", f"function:{origin}-{len(function)}"
        ),
        counts=counts,
    )


def meteor_from_counts(counts: np.ndarray) -> np.ndarray:
    """Compute METEOR from summed counts: (..., 13) -> (...)."""
    lengths = counts[..., :_EXACT_MATCHES]  # (..., 4)
    matches = counts[..., _EXACT_MATCHES:_CHUNKS]  # (..., 8)
    chunks = counts[..., _CHUNKS]
    word_weights = np.array([_DELTA, 1 - _DELTA])  # content, function
    match_weights = np.array([_EXACT_WEIGHT, _STEM_WEIGHT]) / 10
    matches = matches.reshape(*matches.shape[:-1], 2, 2, 2)  # match type, side, word type
    weighted_matches = np.einsum("...msw,m,w->...s", matches, match_weights, word_weights)
    weighted_lengths = lengths.reshape(*lengths.shape[:-1], 2, 2) @ word_weights  # (..., side)
    ratios = weighted_matches / np.maximum(weighted_lengths, 1e-12)
    precision, recall = np.moveaxis(ratios, -1, 0)
    f_mean = precision * recall / np.maximum(_ALPHA * precision + (1 - _ALPHA) * recall, 1e-12)
    num_matches = matches.sum(axis=(-3, -2, -1)) / 2
    identical = (chunks == 1) & (2 * num_matches == lengths.sum(axis=-1))
    fragmentation = np.where(identical, 0, chunks / np.maximum(num_matches, 1e-12))
    return f_mean * (1 - _GAMMA * fragmentation**_BETA)


class _Stems:
    """Return the stems of a text's tokens; each word is stemmed once."""

    def __init__(self) -> None:
        self._stem = _english_stemmer()
        self._cache: dict[str, str] = {}

    def __call__(self, tokens: Sequence[str]) -> list[str]:
        for token in tokens:
            if token not in self._cache:
                self._cache[token] = self._stem(token)
        return [self._cache[token] for token in tokens]


def _english_stemmer() -> Callable[[str], str]:
    from snowballstemmer import stemmer

    return stemmer("english").stemWord


class _StemmedPair(NamedTuple):
    candidate: Sequence[str]
    reference: Sequence[str]
    candidate_stems: Sequence[str]
    reference_stems: Sequence[str]


_Link = tuple[int, int]
"""Positions of a matched word in the candidate and in the reference."""
_NO_LINK = (-2, -2)


def _counts(pair: _StemmedPair, function: frozenset[str]) -> list[int]:
    """Return the row of counts of a candidate and one reference."""
    counts = [0] * (_CHUNKS + 1)
    for word in pair.candidate:
        counts[word in function] += 1
    for word in pair.reference:
        counts[_REFERENCE_WORDS + (word in function)] += 1
    previous = _NO_LINK
    for link in _align(pair):
        word, reference_word = pair.candidate[link[0]], pair.reference[link[1]]
        column = _EXACT_MATCHES if word == reference_word else _STEM_MATCHES
        counts[column + (word in function)] += 1
        counts[column + 2 + (reference_word in function)] += 1
        counts[_CHUNKS] += link != _next_link(previous)
        previous = link
    return counts


class _Alignment(NamedTuple):
    """A partial alignment. Compared as a tuple; smaller is better."""

    negative_weight: int
    chunks: int
    distance: int
    """Sum of the differences between matched positions."""
    matched: int
    """Bit mask of the reference's positions that are matched."""
    links: tuple[_Link, ...]


def _align(pair: _StemmedPair) -> tuple[_Link, ...]:
    """Return the links of the best alignment, in the candidate's order: a beam search.

    It matches as much weight as possible, in few chunks, at similar positions. Only words with the
    same stem compete with each other, so a word is left unmatched only if the candidate has its
    stem more often than the reference.
    """
    positions: dict[str, list[int]] = {}  # stem -> positions in the reference
    for position, stem in enumerate(pair.reference_stems):
        positions.setdefault(stem, []).append(position)
    num_candidates = Counter(stem for stem in pair.candidate_stems if stem in positions)
    beam = [_Alignment(0, 0, 0, 0, (_NO_LINK,))]
    for index, stem in enumerate(pair.candidate_stems):
        if stem not in positions:
            continue
        may_skip = num_candidates[stem] > len(positions[stem])
        best: dict[tuple[int, _Link], _Alignment] = {}
        for alignment in beam:
            for extended in _extend(alignment, pair, index, positions[stem], may_skip):
                state = (extended.matched, extended.links[-1])
                if state not in best or extended < best[state]:
                    best[state] = extended
        beam = list(best.values())
        if len(beam) > _BEAM_SIZE:
            beam = sorted(beam)[:_BEAM_SIZE]
    return min(beam).links[1:]


def _extend(
    alignment: _Alignment, pair: _StemmedPair, index: int, positions: list[int], may_skip: bool
) -> list[_Alignment]:
    """Return the alignments that match word `index` with a free position, or skip it."""
    extended = [alignment] if may_skip else []
    for position in positions:
        if alignment.matched >> position & 1:
            continue
        exact = pair.candidate[index] == pair.reference[position]
        link = (index, position)
        extended.append(
            _Alignment(
                alignment.negative_weight - (_EXACT_WEIGHT if exact else _STEM_WEIGHT),
                alignment.chunks + (link != _next_link(alignment.links[-1])),
                alignment.distance + abs(index - position),
                alignment.matched | 1 << position,
                (*alignment.links, link),
            )
        )
    return extended


def _next_link(link: _Link) -> _Link:
    """Return the link that continues the chunk of `link`."""
    return link[0] + 1, link[1] + 1
