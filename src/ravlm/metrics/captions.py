"""All caption metrics at once: texts are tokenised once, n-grams counted once. Knows the other files' metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ravlm.errors import InvalidInput, nearest
from ravlm.metrics.bleu import bleu_of
from ravlm.metrics.cider import CiderFrequencies, cider_of
from ravlm.metrics.meteor import meteor_of
from ravlm.metrics.rouge import rouge_l_of
from ravlm.metrics.texts import Texts, Tokenize
from ravlm.records import Score

CAPTION_METRICS: dict[str, Callable[[Texts, CiderFrequencies | None], Score]] = {
    "bleu-1": lambda texts, _: bleu_of(texts, 1),
    "bleu-2": lambda texts, _: bleu_of(texts, 2),
    "bleu-3": lambda texts, _: bleu_of(texts, 3),
    "bleu-4": lambda texts, _: bleu_of(texts, 4),
    "rouge-l": lambda texts, _: rouge_l_of(texts),
    "cider": cider_of,
    "meteor": lambda texts, _: meteor_of(texts),
}


def caption_scores(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = "ptb",
    frequencies: CiderFrequencies | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Score]:
    """The scores of `bleu`, `rouge_l`, `cider` and `meteor` by name, or those of `only`: as each alone, but faster."""
    for name in only or ():
        if name not in CAPTION_METRICS:
            raise InvalidInput(f'There is no caption metric "{name}".{nearest(name, CAPTION_METRICS)}')
    texts = Texts(candidates, references, tokenize)
    return {n: metric(texts, frequencies) for n, metric in CAPTION_METRICS.items() if only is None or n in only}
