"""Arms: the conditions of a comparison. All use the same model and code path; only the evidence
differs, or a baseline answers in place of the generator.

    closed-book   no evidence (k = 0)
    retrieved     what the model retrieves
    random        random entries
    oracle        entries that contain the reference, if the base has any
    copy          as retrieved; the answer is the text of the nearest entry
    majority      as retrieved; the answer is what most of the entries agree on

Settings follow the name: `retrieved@k=8`, `retrieved@noise=0.5` (this fraction of the evidence is
replaced by random entries), `retrieved@size=0.1` (this fraction of the base is searched)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.evaluation.baselines import CopyGenerator, MajorityGenerator
from ravlm.generation.base import Generator

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

EvidenceKind = Literal["none", "retrieved", "random", "oracle"]


@dataclass(frozen=True)
class ArmKind:
    """Where the evidence of an arm comes from, and the baseline that replaces the generator."""

    evidence: EvidenceKind
    baseline: type[Generator] | None = None
    ranks_entries: bool = False
    """Whether the arm makes sense for a task that only ranks entries."""


ARMS: dict[str, ArmKind] = {
    "closed-book": ArmKind("none"),
    "retrieved": ArmKind("retrieved", ranks_entries=True),
    "random": ArmKind("random", ranks_entries=True),
    "oracle": ArmKind("oracle"),
    "copy": ArmKind("retrieved", CopyGenerator),
    "majority": ArmKind("retrieved", MajorityGenerator),
}
"""The arms by name."""


@dataclass(frozen=True)
class Arm:
    """One condition of a comparison, made by `parse_arms`."""

    name: str
    """The name as written, with its settings."""
    base_name: str
    """The name without settings: a key of `ARMS`."""
    k: int
    noise: float = 0.0
    """Fraction of the evidence to replace by random entries, 0 to 1."""
    size: float = 1.0
    """Fraction of the base to search, above 0 and at most 1."""

    @property
    def kind(self) -> ArmKind:
        """What the arm does."""
        return ARMS[self.base_name]

    @property
    def is_closed_book(self) -> bool:
        """Whether the arm reads no evidence."""
        return self.kind.evidence == "none" or self.k == 0

    @property
    def has_settings(self) -> bool:
        """Whether settings follow the name."""
        return self.name != self.base_name

    def model(self, model: RetrievalAugmentedVLM) -> RetrievalAugmentedVLM:
        """Return `model`, with this arm's baseline as its generator if it has one."""
        if self.kind.baseline is None:
            return model
        baseline_model = copy.copy(model)
        baseline_model.generator = self.kind.baseline()
        return baseline_model


def allowed_arms(ranks_entries: bool) -> list[str]:
    """Return the names of the arms for a task that ranks entries, or for any other task."""
    return [name for name, kind in ARMS.items() if kind.ranks_entries or not ranks_entries]


def parse_arms(names: Sequence[str], k: int, allowed: Sequence[str]) -> list[Arm]:
    """Return the arms that `names` describe; `k` is the default number of entries.

    Raises InvalidInput for an unknown arm, a bad setting, a duplicate, or no arms."""
    arms = [_parse_arm(name, k, allowed) for name in names]
    if not arms:
        raise InvalidInput(f"There are no arms to compare; choose from {', '.join(allowed)}.")
    for name in names:
        if list(names).count(name) > 1:
            raise InvalidInput(f'The arm "{name}" is a duplicate; name each arm once.')
    return arms


def _parse_arm(name: str, k: int, allowed: Sequence[str]) -> Arm:
    base_name, *settings = name.split("@")
    if base_name not in allowed:
        raise InvalidInput(
            f'Unknown arm "{base_name}" for this task; allowed: {", ".join(allowed)}.'
            f"{did_you_mean(base_name, allowed)}"
        )
    values: dict[str, float] = {"k": k, "noise": 0.0, "size": 1.0}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in values:
            raise InvalidInput(
                f'The arm "{name}" has an unknown setting "{key}"; allowed: k, noise, size.'
            )
        values[key] = _number(name, key, value)
    _check_settings(name, values)
    return Arm(name, base_name, int(values["k"]), values["noise"], values["size"])


def _number(name: str, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidInput(
            f'The arm "{name}" sets {key} to "{value}"; it must be a number.'
        ) from None


def _check_settings(name: str, values: dict[str, float]) -> None:
    if values["k"] < 0 or values["k"] != int(values["k"]):
        raise InvalidInput(
            f'The arm "{name}" has k = {values["k"]:g}; it must be a whole number from 0.'
        )
    if not 0 <= values["noise"] <= 1:
        raise InvalidInput(
            f'The arm "{name}" has noise = {values["noise"]:g}; it must be from 0 to 1.'
        )
    if not 0 < values["size"] <= 1:
        raise InvalidInput(
            f'The arm "{name}" has size = {values["size"]:g}; it must be above 0 and at most 1.'
        )
