"""The errors that ravlm raises on purpose.

Every message is written for a person: it names the value, what is allowed and the next step.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RavlmError(Exception):
    """Base class of every error that ravlm raises on purpose."""


class InvalidInput(RavlmError, ValueError):
    """An argument has a value that is not allowed."""


class NotFound(RavlmError, LookupError):
    """A file, folder, knowledge base or entry does not exist."""


class BrokenData(RavlmError):
    """An image, row or file is damaged or is not in the expected format."""


class DamagedBase(BrokenData):
    """The files of a knowledge base are damaged; no request is to blame."""


class Mismatch(RavlmError):
    """Two things do not belong together: an encoder and a base, or weights and a config."""


class MissingExtra(RavlmError, ImportError):
    """An optional package is required for this operation and is not installed.

    `alternative` is another way to install it, in parentheses.
    """

    def __init__(self, package: str, extra: str, purpose: str, alternative: str = "") -> None:
        super().__init__(
            f'{purpose} needs the package "{package}", which is not installed; '
            f'install it with: pip install "ravlm[{extra}]"{alternative and f" ({alternative})"}'
        )


class Busy(RavlmError):
    """Another process holds the resource and did not release it in time."""


class DiskError(RavlmError, OSError):
    """A disk is full, fails, or has a file system without locks."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.strerror = message


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean "k"?` for the allowed names closest to `value`, or an empty string."""
    matches = get_close_matches(value, list(allowed), n=2, cutoff=0.5)
    if not matches:
        return ""
    return " Did you mean " + " or ".join(f'"{name}"' for name in matches) + "?"
