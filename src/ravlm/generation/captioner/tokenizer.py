"""Tokenizers that are made here: whole words of captions, Chinese character by character.

They are `PreTrainedTokenizerFast`, saved beside a model's weights as Transformers saves any. Knows
no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ravlm.data.chinese import HAN
from ravlm.errors import InvalidInput

PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)
_HAN = re.sub(r"\\[uU]([0-9a-f]+)", lambda escape: chr(int(escape[1], 16)), HAN)
"""The tokenizers' regular expressions know no \\u: the characters themselves."""
_BETWEEN = rf"[^a-z0-9'{_HAN}]|(?<![a-z0-9])'|'(?![a-z])"
"""What is no part of a word, in lower case: words are [a-z0-9]+(?:'[a-z]+)? and single Chinese
characters."""


def train_words(texts: Iterable[str], least: int = 4) -> Any:
    """A tokenizer (`PreTrainedTokenizerFast`) of the words that occur at least `least` times in
    `texts`.

    Raises InvalidInput where there is none.
    """
    from tokenizers import (
        Regex,
        Tokenizer,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    spaced = normalizers.Replace(Regex(_BETWEEN), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), spaced]
    )
    apart = pre_tokenizers.Split(Regex(f"[{_HAN}]"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), apart])
    trainer = trainers.WordLevelTrainer(
        min_frequency=least, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() == len(SPECIAL):
        raise InvalidInput(
            f"No word occurs {least} times in the texts; give more texts or a smaller number."
        )
    ids = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END, unk_token=UNKNOWN
    )


def sentence(words: Sequence[str]) -> str:
    """Words as a person writes them: a space between English ones, a capital in front, a stop
    behind."""
    text = ""
    for word in words:
        chinese = re.fullmatch(f"[{HAN}]", word) is not None
        text += word if not text or (chinese and re.search(f"[{HAN}]$", text)) else f" {word}"
    if not text:
        return ""
    stop = "。" if re.search(f"[{HAN}]$", text) else "."
    return text[0].upper() + text[1:] + stop
