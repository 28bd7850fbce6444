"""The errors that cross a border on purpose: every one is a sentence for a person.

Each message names the value, what is allowed and the next step. Knows nothing of the rest of ravlm.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RavlmError(Exception):
    """Base of everything that ravlm raises on purpose."""


class InvalidInput(RavlmError, ValueError):
    """A value that a caller gave is not allowed."""


class NotFound(RavlmError, LookupError):
    """A file, folder, base or entry that was named is not there."""


class BrokenData(RavlmError):
    """A picture, row or file can't be read as what it should be."""


class Mismatch(RavlmError):
    """Two things that must belong together do not: an encoder and a base, weights and a config."""


class MissingExtra(RavlmError, ImportError):
    """An optional package is needed now and is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f'{purpose} needs the package "{package}", which is not installed; '
            f'install it with: pip install "ravlm[{extra}]"'
        )


class Busy(RavlmError):
    """Another process holds what is needed, and did not let go in time."""


def nearest(value: str, allowed: Iterable[str]) -> str:
    """` Did you mean "k"?` for the allowed names that look like `value`, or an empty string."""
    close = get_close_matches(value, list(allowed), n=2, cutoff=0.5)
    return " Did you mean " + " or ".join(f'"{name}"' for name in close) + "?" if close else ""
