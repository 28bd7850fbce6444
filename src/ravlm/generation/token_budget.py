"""Share a budget of tokens among the entries of the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.errors import InvalidInput


def fair_share(lengths: Sequence[int], budget: int) -> list[int]:
    """Return how many tokens each entry of evidence may keep so that all together fit `budget`.

    Short entries stay whole. The long ones share the rest equally; if it does not divide evenly,
    the first ones keep one token more. Raises InvalidInput for a negative budget."""
    if budget < 0:
        raise InvalidInput(f"The budget for evidence is {budget} tokens; it must be at least 0.")
    shares = [0] * len(lengths)
    remaining = budget
    waiting = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))  # shortest first
    while waiting:
        share, extra = divmod(remaining, len(waiting))
        shortest = waiting[0]
        if lengths[shortest] > share:
            for position, i in enumerate(sorted(waiting)):
                shares[i] = min(lengths[i], share + (position < extra))
            break
        shares[shortest] = lengths[shortest]
        remaining -= lengths[waiting.pop(0)]
    return shares
