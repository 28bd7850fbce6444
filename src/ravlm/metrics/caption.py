"""All caption metrics at once: texts are tokenised once, n-grams counted once. Knows the other
files' metrics."""

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
_FAMILIES: dict[
    tuple[str, ...], Callable[[TokenizedCorpus, CiderFrequencies | None], Sequence[Score]]
] = {
    CAPTION_METRICS[:4]: lambda texts, _: corpus_bleus(texts),
    ("rouge-l",): lambda texts, _: [corpus_rouge_l(texts)],
    ("cider",): lambda texts, frequencies: [corpus_cider(texts, frequencies)],
    ("meteor",): lambda texts, _: [corpus_meteor(texts)],
}


def caption_scores(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: TokenizerName = "ptb",
    frequencies: CiderFrequencies | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Score]:
    """The scores of `bleu`, `rouge_l`, `cider` and `meteor` by name, or those of `only`: as each
    alone, but faster."""
    for name in only or ():
        if name not in CAPTION_METRICS:
            raise InvalidInput(
                f'There is no caption metric "{name}".{did_you_mean(name, CAPTION_METRICS)}'
            )
    wanted = CAPTION_METRICS if only is None else only
    texts = TokenizedCorpus(candidates, references, tokenize)
    found: dict[str, Score] = {}
    for names, family in _FAMILIES.items():
        if set(names) & set(wanted):
            found.update(zip(names, family(texts, frequencies), strict=True))
    return {name: score for name, score in found.items() if name in wanted}
