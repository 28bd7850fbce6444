"""Judge whether a caption or story of a new image is right, by how familiar the image is to the
base. Token probabilities do not help: on photos from elsewhere, wrong captions had higher ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ravlm.generation.base import Request, abstain
from ravlm.records import Answer, Evidence

MIN_FAMILIARITY = 0.04
"""Abstain below this: by definition one in 25 photos like those of the base, and nearly nine in ten
photos of other subjects (`benchmarks/foreign_photos.py`; chosen on one half of them)."""
_RIGHT = (0.403, 0.779)
"""From the log-odds of the familiarity to the log-odds that a caption is right: fitted to half of
those photos and to photos like those of the base."""
_MIN_SHARE = 0.002


def judged_caption(request: Request, answer: Answer) -> Answer:
    """Return a caption with the probability that it is right, or an abstention instead of it.

    Closed-book captions keep the writer's own confidence.
    """
    if not request.evidence.hits:
        return answer
    if not supports_caption(request.evidence):
        return _decline(request, answer.trace)
    return replace(answer, confidence=round(caption_confidence(request.evidence), 4))


def decline_unlike(request: Request) -> Answer | None:
    """Return an abstention if the request's image is unlike those that the base describes."""
    if request.image is None or supports_caption(request.evidence):
        return None
    return _decline(request, request.evidence.trace)


def _decline(request: Request, trace: Mapping[str, Any]) -> Answer:
    traced = replace(request, evidence=replace(request.evidence, trace=trace))
    declined = abstain(traced, "the image is unlike those that the base describes")
    return replace(declined, confidence=round(1 - caption_confidence(request.evidence), 4))


def caption_confidence(evidence: Evidence) -> float:
    """Return the probability that a caption based on `evidence` is right.

    An entity that was recognized in the image vouches for the caption by itself.
    """
    share = min(max(evidence.familiarity, _MIN_SHARE), 1 - _MIN_SHARE)
    logit = _RIGHT[0] * math.log(share / (1 - share)) + _RIGHT[1]
    confidence = 1 / (1 + math.exp(-logit))
    if evidence.recognized:
        return max(confidence, evidence.support)
    return confidence if evidence.familiarity < 1 else evidence.support


def supports_caption(evidence: Evidence) -> bool:
    """Return whether a caption of the image may be based on the evidence.

    In a base with too few images to tell what is familiar, its texts must match the image.
    """
    if evidence.recognized:
        return True
    if evidence.familiarity >= 1:
        return evidence.sufficient
    return evidence.familiarity >= MIN_FAMILIARITY
