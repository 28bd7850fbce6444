"""The encoder of an open base: loaded on first use, and verified by fingerprint and canaries."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ravlm.encoders.auto import DualEncoder, matching_encoder
from ravlm.errors import Mismatch
from ravlm.knowledge import canaries
from ravlm.knowledge.backend import Backend
from ravlm.records import MODALITIES, Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


class EncoderGuard:
    """Provides the encoder that a base was built with, and no other. Thread-safe."""

    def __init__(self, backend: Backend, encoder: Encoder | str | Path | None) -> None:
        """Raises Mismatch if `encoder` is not the one the base was built with.

        A name or folder is loaded."""
        if isinstance(encoder, str | Path):
            encoder = DualEncoder.load(encoder)
        self._backend = backend
        self._verified: set[Modality] = set()
        self._lock = threading.RLock()
        self._encoder = None if encoder is None else self._as_built(encoder)

    def trust(self, encoder: Encoder) -> None:
        """Use an encoder whose canaries were just stored."""
        with self._lock:
            self._encoder = encoder
            self._verified = set(MODALITIES)

    def get(self, modalities: Sequence[Modality] = MODALITIES) -> Encoder:
        """Return the encoder, loaded and verified for inputs of these modalities.

        A modality that is left out costs nothing: a search for a text needs no image network.
        Raises Mismatch if it is not the base's.
        """
        with self._lock:
            if self._encoder is None:
                encoder = DualEncoder.load(self._backend.identity.encoder)
                self._encoder = self._as_built(encoder)
            unverified = [name for name in modalities if name not in self._verified]
            if unverified:
                self._backend.check_current()
                self._check_canaries(self._encoder, unverified)
                self._verified.update(unverified)
            return self._encoder

    def _as_built(self, encoder: Encoder) -> Encoder:
        """Return the encoder, or the form of it that the base was built with.

        Raises Mismatch if the base was built with another one."""
        name, identity = self._backend.name, self._backend.identity
        matching = matching_encoder(
            encoder, identity.fingerprint, identity.dim, identity.token_pooling
        )
        if matching is None:
            raise Mismatch(
                f'The knowledge base "{name}" was built with the encoder "{identity.encoder}" '
                f'(fingerprint {identity.fingerprint[:12]}), not with "{encoder.name}" '
                f"(fingerprint {encoder.fingerprint[:12]}); their vectors are not comparable. Use "
                "the first encoder, or re-encode the base: "
                f"ravlm reencode {name} --encoder {encoder.name}"
            )
        if matching.is_former:
            warnings.warn(
                f'The knowledge base "{name}" was built by an earlier version of ravlm, which ran '
                f'the encoder "{encoder.name}" differently; for this base it still runs that way. '
                f"Move to the better vectors: ravlm reencode {name} --encoder {encoder.name}",
                stacklevel=3,
            )
        return matching.encoder

    def _check_canaries(self, encoder: Encoder, modalities: Sequence[Modality]) -> None:
        stored = self._backend.store.canaries()
        cosine = canaries.min_canary_cosine(encoder, stored, modalities)
        if not cosine >= canaries.MIN_COSINE:  # NaN is no match
            name = self._backend.name
            raise Mismatch(
                f'The encoder "{encoder.name}" produces other vectors here than when "{name}" was '
                f"built (cosine of a canary: {cosine:.4f}, at least {canaries.MIN_COSINE} is "
                f"required). Re-encode the base: ravlm reencode {name} --encoder {encoder.name}"
            )
