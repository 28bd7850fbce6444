"""How evidence enters a decoder: as a prefix, through cross-attention, or entry by entry with
marginalization. `FUSIONS` lists every fusion; configurations, the command line and error messages
read it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ravlm.errors import InvalidInput, did_you_mean

if TYPE_CHECKING:
    from ravlm.fusion.base import Fusion

FUSIONS: dict[str, str] = {
    "prefix": "ravlm.fusion.prefix.PrefixFusion",
    "cross_attention": "ravlm.fusion.cross_attention.CrossAttentionFusion",
    "marginal": "ravlm.fusion.marginal.MarginalFusion",
    "marginal_prefix": "ravlm.fusion.marginal.MarginalPrefixFusion",
}
"""Name -> class, imported on first use: the command line lists the names without torch."""


def check_fusion(name: str) -> str:
    """Return `name` if it is a key of FUSIONS. Raises InvalidInput otherwise."""
    if name not in FUSIONS:
        raise InvalidInput(
            f'Unknown fusion "{name}"; allowed: {", ".join(FUSIONS)}.{did_you_mean(name, FUSIONS)}'
        )
    return name


def fusion_class(name: str) -> type[Fusion]:
    """Return the class of a fusion; its attributes state what it needs.

    Raises InvalidInput for an unknown name.

    >>> fusion_class("cross_attention").needs_cross_attention
    True
    """
    module, _, class_name = FUSIONS[check_fusion(name)].rpartition(".")
    return getattr(import_module(module), class_name)
