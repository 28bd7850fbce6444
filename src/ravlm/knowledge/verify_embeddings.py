"""Proof that stored vectors mean their entries: a sample encoded again, and the canaries. Knows no
back end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravlm.errors import Mismatch, RavlmError
from ravlm.knowledge import canaries
from ravlm.knowledge.embed import Item, encode
from ravlm.knowledge.images import opened
from ravlm.knowledge.records import EntryRow
from ravlm.records import Entry, Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


def encoded_again(
    rows: Sequence[EntryRow],
    encoder: Callable[[], Encoder],
    stored: Mapping[Modality, np.ndarray],
) -> list[str]:
    """What is wrong, a sentence each, with the vectors of these entries that were encoded, and with
    the canaries'."""
    try:
        now = encoder()
    except Mismatch as error:
        return [str(error)]
    findings, items = [], []
    worst = canaries.worst_cosine(now, dict(stored))
    if worst < canaries.LEAST:
        findings.append(f"A canary's vector is not the stored one (cosine {worst:.4f}).")
    for row in rows:
        item = Item(
            Entry(row.id, row.image, tuple(json.loads(row.texts)), json.loads(row.metadata))
        )
        try:
            if row.image is not None:
                item.pixels = opened(row.image, now)
        except RavlmError as error:
            findings.append(f'The picture of "{row.id}" can\'t be read again: {error}')
        items.append(item)
    encode(items, lambda: now)
    for row, item in zip(rows, items, strict=True):
        findings += _differences(row, item)
    return findings


def _differences(row: EntryRow, item: Item) -> list[str]:
    findings = []
    now = {(part.modality, part.position, part.passage): part.vector for part in item.parts}
    for part in row.parts:
        if part.precomputed:
            continue
        again = now.get((part.modality, part.position, part.passage))
        if again is None:
            if part.modality != "image":  # a picture that can't be read was told already
                findings.append(
                    f'"{row.id}" has a passage that its texts don\'t have: {part.passage!r}.'
                )
            continue
        cosine = float(_row(part.vector) @ _row(again))
        if cosine < canaries.LEAST:
            what = "picture" if part.modality == "image" else f"text {part.position + 1}"
            findings.append(
                f'The {what} of "{row.id}" is now encoded to another vector than the stored one (cosine {cosine:.3f}).'
            )
    return findings


def _row(vector: bytes) -> np.ndarray:
    return np.frombuffer(vector, "<f2").astype(np.float32)
