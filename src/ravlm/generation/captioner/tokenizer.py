"""Word-level tokenizers for captions; Chinese is split into characters.

They are `PreTrainedTokenizerFast` objects, saved next to a model's weights as Transformers does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ravlm.data.chinese import HAN
from ravlm.errors import InvalidInput

PAD = "<pad>"
START = "<s>"
END = "</s>"
UNKNOWN = "<unk>"
SPECIAL_TOKENS = (PAD, START, END, UNKNOWN)
# `tokenizers` does not read \u escapes in a regular expression: it gets the characters themselves
_HAN = re.sub(r"\\[uU]([0-9a-f]+)", lambda escape: chr(int(escape[1], 16)), HAN)
_SEPARATOR = rf"[^a-z0-9'{_HAN}]|(?<![a-z0-9])'|'(?![a-z])"
"""What separates words in lower-case text. A word is [a-z0-9]+(?:'[a-z]+)? or one Chinese
character."""


def train_tokenizer(texts: Iterable[str], min_frequency: int = 4) -> Any:
    """Return a tokenizer (`PreTrainedTokenizerFast`) of the frequent words of `texts`.

    Raises InvalidInput if no word occurs `min_frequency` times.
    """
    from tokenizers import Tokenizer, models, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = _pre_tokenizer()
    trainer = trainers.WordLevelTrainer(
        min_frequency=min_frequency, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() == len(SPECIAL_TOKENS):
        raise InvalidInput(
            f"No word occurs {min_frequency} times in the texts; use more texts or a smaller "
            "minimum frequency."
        )
    special_tokens = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=special_tokens
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END, unk_token=UNKNOWN
    )


def _normalizer() -> Any:
    from tokenizers import Regex, normalizers

    spaces = normalizers.Replace(Regex(_SEPARATOR), " ")
    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), spaces])


def _pre_tokenizer() -> Any:
    from tokenizers import Regex, pre_tokenizers

    characters = pre_tokenizers.Split(Regex(f"[{_HAN}]"), behavior="isolated")
    return pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), characters])


def detokenize(words: Sequence[str]) -> str:
    """Join words to a sentence: spaces between English words, a capital first, a final stop.

    >>> detokenize(["a", "dog", "runs"])
    'A dog runs.'
    """
    text = ""
    for word in words:
        is_chinese = re.fullmatch(f"[{HAN}]", word) is not None
        needs_no_space = not text or (is_chinese and re.search(f"[{HAN}]$", text))
        text += word if needs_no_space else f" {word}"
    if not text:
        return ""
    stop = "。" if re.search(f"[{HAN}]$", text) else "."
    return text[0].upper() + text[1:] + stop
