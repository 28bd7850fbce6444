"""A fusion by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ravlm.errors import InvalidInput, nearest
from ravlm.fusion.base import Fusion
from ravlm.fusion.cross_attention import CrossAttentionFusion
from ravlm.fusion.marginal import MarginalFusion
from ravlm.fusion.prefix import PromptFusion

FUSIONS: dict[str, Callable[[Any], Fusion]] = {
    "prompt": PromptFusion,
    "cross_attention": CrossAttentionFusion,
    "marginal": lambda decoder: MarginalFusion(CrossAttentionFusion(decoder)),
    "marginal_prompt": lambda decoder: MarginalFusion(PromptFusion(decoder)),
}


def checked_fusion(name: str) -> str:
    """`name`, if it is one of FUSIONS; else raises InvalidInput."""
    if name not in FUSIONS:
        raise InvalidInput(
            f'The fusion is "{name}"; allowed: {", ".join(FUSIONS)}.{nearest(name, FUSIONS)}'
        )
    return name
