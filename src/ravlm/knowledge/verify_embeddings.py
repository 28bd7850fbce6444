"""Check that stored vectors belong to their entries: encode a sample and the canaries again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.addresses import address_policy
from ravlm.data.images import is_address
from ravlm.errors import BrokenData, Mismatch, RavlmError
from ravlm.knowledge import canaries
from ravlm.knowledge.embed import IngestItem, encode_items
from ravlm.knowledge.entry_store import decode_vector, to_entry
from ravlm.knowledge.images import open_images
from ravlm.knowledge.records import EntryRow, PartRow
from ravlm.records import Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


def find_wrong_embeddings(
    rows: Sequence[EntryRow],
    encoder: Callable[[], Encoder],
    stored_canaries: Mapping[Modality, np.ndarray],
) -> list[str]:
    """Encode `rows` and the canaries again. Return one sentence per difference.

    Precomputed vectors are not checked.
    """
    try:
        loaded = encoder()
    except (Mismatch, BrokenData) as error:
        return [str(error)]
    findings = []
    cosine = canaries.min_canary_cosine(loaded, stored_canaries)
    if not cosine >= canaries.MIN_COSINE:
        findings.append(
            f"The vector of a canary differs from the stored one (cosine {cosine:.4f})."
        )
    items = []
    for row in rows:
        item = IngestItem(to_entry(row))
        try:
            if row.image is not None and not _is_unfetched(row.image):
                regions = item.entry.regions
                item.pixels, item.tiles = open_images(row.image, regions, loaded)
        except RavlmError as error:
            findings.append(f'The image of "{row.id}" cannot be read: {error}')
        items.append(item)
    encode_items(items, lambda: loaded)
    for row, item in zip(rows, items, strict=True):
        findings += _differences(row, item)
    return findings


def _is_unfetched(image: str) -> bool:
    """Return whether an image is at a web address that is not fetched here."""
    return is_address(image) and address_policy() == "none"


def _differences(row: EntryRow, item: IngestItem) -> list[str]:
    if item.error:
        return [f'"{row.id}" cannot be encoded again: {item.error}']
    findings = []
    encoded = {(part.modality, part.position, part.passage): part for part in item.parts}
    for part in row.parts:
        if part.precomputed:
            continue
        encoded_part = encoded.get((part.modality, part.position, part.passage))
        if encoded_part is None:
            if part.modality == "text":  # a missing image has been reported
                findings.append(
                    f'"{row.id}" has a passage that is not in its texts: {part.passage!r}.'
                )
            continue
        cosine = _cosine(part, encoded_part)
        if not cosine >= canaries.MIN_COSINE:
            label = "image" if part.modality == "image" else f"text {part.position + 1}"
            findings.append(
                f'The {label} of "{row.id}" is now encoded to another vector than the stored one '
                f"(cosine {cosine:.3f})."
            )
    return findings


def _cosine(stored: PartRow, encoded: PartRow) -> float:
    """Return the cosine of two vectors of a part; for token vectors, the mean over the tokens."""
    if stored.tokens is None or encoded.tokens is None:
        return float(decode_vector(stored.vector) @ decode_vector(encoded.vector))
    tokens = decode_vector(stored.tokens), decode_vector(encoded.tokens)
    if len(tokens[0]) != len(tokens[1]):
        return -1.0
    num_tokens = len(stored.tokens) // len(stored.vector)
    return float(tokens[0] @ tokens[1]) / num_tokens
