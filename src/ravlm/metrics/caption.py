"""All caption metrics at once: texts are tokenized once and n-grams counted once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.metrics.bleu import corpus_bleus
from ravlm.metrics.cider import CiderFrequencies, corpus_cider
from ravlm.metrics.meteor import corpus_meteor
from ravlm.metrics.rouge import corpus_rouge_l
from ravlm.metrics.tokenization import TokenizedCorpus, TokenizerName
from ravlm.records import Score

CAPTION_METRICS = ("bleu-1", "bleu-2", "bleu-3", "bleu-4", "rouge-l", "cider", "meteor")
"""The names, in the order of tables."""
_ScoreFunction = Callable[[TokenizedCorpus, CiderFrequencies | None], Sequence[Score]]
_SCORE_FUNCTIONS: dict[tuple[str, ...], _ScoreFunction] = {
    CAPTION_METRICS[:4]: lambda corpus, _: corpus_bleus(corpus),
    ("rouge-l",): lambda corpus, _: [corpus_rouge_l(corpus)],
    ("cider",): lambda corpus, frequencies: [corpus_cider(corpus, frequencies)],
    ("meteor",): lambda corpus, _: [corpus_meteor(corpus)],
}


def caption_scores(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: TokenizerName = "ptb",
    frequencies: CiderFrequencies | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Score]:
    """Compute `bleu`, `rouge_l`, `cider` and `meteor`: name -> Score, in the order of tables.

    Scales, reference implementations and tokenization are those of the single functions; so are
    the results, which come faster. `names` selects some of `CAPTION_METRICS`.

        caption_scores(["a dog runs"], [["a dog is running"]])["cider"].value
    """
    for name in names or ():
        if name not in CAPTION_METRICS:
            hint = did_you_mean(name, CAPTION_METRICS)
            raise InvalidInput(f'There is no caption metric "{name}".{hint}')
    selected = CAPTION_METRICS if names is None else names
    corpus = TokenizedCorpus(candidates, references, tokenize)
    scores: dict[str, Score] = {}
    for family, function in _SCORE_FUNCTIONS.items():
        if set(family) & set(selected):
            scores.update(zip(family, function(corpus, frequencies), strict=True))
    return {name: score for name, score in scores.items() if name in selected}
