"""Arms: the conditions of a comparison. Each gives the evidence that the one model then reads on
the one code path.

    closed-book   nothing (k = 0)
    retrieved     what the model finds
    random        entries drawn at random
    oracle        entries that have what is right, as far as the base goes
    copy          what the model finds, its nearest text said as it is
    majority      what the model finds, said as most of it says

Behind the name may stand settings: `retrieved@k=8`, `retrieved@noise=0.5` (so much of the evidence
is replaced by random entries), `retrieved@size=0.1` (only so much of the base is there). Knows no
scores."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.data.facts import entity_key
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.evaluation.baselines import CopyGenerator, MajorityGenerator
from ravlm.evaluation.kb_subset import KnowledgeBaseSubset
from ravlm.generation.base import Generator
from ravlm.records import CLOSED_BOOK, Evidence, Example, Hit, Modality
from ravlm.search.options import SearchOptions

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM
    from ravlm.tasks import Task

GENERATORS: dict[str, type[Generator] | None] = {
    "closed-book": None,
    "retrieved": None,
    "random": None,
    "oracle": None,
    "copy": CopyGenerator,
    "majority": MajorityGenerator,
}
"""The arms by name, with what takes the place of the model's own generator."""
OF_RETRIEVAL = ("retrieved", "random")
"""The arms of a task that no generator writes for."""
_POOL = 2000
_SPARE = 4
"""Hits found beyond k, for those that the leakage guard drops."""


@dataclass(frozen=True)
class Arm:
    """One condition, as `read_arms` read it."""

    name: str
    """As it was written, settings included."""
    kind: str
    k: int
    noise: float = 0.0
    size: float = 1.0

    @property
    def is_closed(self) -> bool:
        """Whether nothing is read."""
        return self.kind == "closed-book" or self.k == 0

    @property
    def is_plain(self) -> bool:
        """Whether it was written without settings."""
        return self.name == self.kind

    def model(self, model: RetrievalAugmentedVLM) -> RetrievalAugmentedVLM:
        """`model`, with this arm's generator where it has its own."""
        generator = GENERATORS[self.kind]
        if generator is None:
            return model
        other = copy.copy(model)
        other.writer = generator()
        return other


def read_arms(names: Sequence[str], k: int, allowed: Sequence[str]) -> list[Arm]:
    """Arms from their names. Raises InvalidInput for an unknown one, a wrong setting, or one that
    comes twice."""
    arms = [_read_arm(name, k, allowed) for name in names]
    if not arms:
        raise InvalidInput(f"There are no arms to compare; choose from {', '.join(allowed)}.")
    for name in names:
        if list(names).count(name) > 1:
            raise InvalidInput(f'The arm "{name}" comes twice; name each once.')
    return arms


def _read_arm(name: str, k: int, allowed: Sequence[str]) -> Arm:
    kind, *settings = name.split("@")
    if kind not in allowed:
        raise InvalidInput(
            f'There is no arm "{kind}" here; allowed: {", ".join(allowed)}.{did_you_mean(kind, allowed)}'
        )
    values: dict[str, float] = {"k": k, "noise": 0.0, "size": 1.0}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in values:
            raise InvalidInput(
                f'The arm "{name}" has the setting "{key}"; allowed: k, noise, size.'
            )
        try:
            values[key] = float(value)
        except ValueError:
            raise InvalidInput(
                f'The arm "{name}" sets {key} to "{value}"; a number is needed.'
            ) from None
    if values["k"] < 0 or values["k"] != int(values["k"]):
        raise InvalidInput(
            f'The arm "{name}" has k = {values["k"]:g}; a whole number from 0 on is needed.'
        )
    if not 0 <= values["noise"] <= 1 or not 0 < values["size"] <= 1:
        raise InvalidInput(
            f'The arm "{name}": noise is a share from 0 to 1, size one above 0 and up to 1.'
        )
    return Arm(name, kind, int(values["k"]), values["noise"], values["size"])


class EvidenceSource:
    """The evidence of each arm for a model's examples; what several arms read is looked for
    once."""

    def __init__(self, task: Task, model: RetrievalAugmentedVLM, k: int, seed: int = 0) -> None:
        """`k`: the most that any arm reads; the others read the first of the same."""
        self.task, self.model, self.seed = task, model, seed
        self.depth = k + _SPARE
        self._found: dict[tuple[str, float], Evidence] = {}
        self._shares: dict[float, RetrievalAugmentedVLM] = {}
        self._pool: list[Hit] | None = None

    def of(self, arm: Arm, examples: Sequence[Example]) -> list[Evidence]:
        """What `arm` reads for each of `examples`."""
        if arm.is_closed:
            return [CLOSED_BOOK] * len(examples)
        if arm.kind == "random":
            return [_trusted(self._random(example, arm.k)) for example in examples]
        if arm.kind == "oracle":
            return [_trusted(self._gold(example, arm.k)) for example in examples]
        found = self._retrieved(examples, arm)
        if arm.noise:
            found = [
                self._noisy(evidence, e, arm.noise)
                for evidence, e in zip(found, examples, strict=True)
            ]
        return (
            found if GENERATORS[arm.kind] is None else [replace(each, min_support=0.0) for each in found]
        )

    def _retrieved(self, examples: Sequence[Example], arm: Arm) -> list[Evidence]:
        new = [e for e in examples if (e.id, arm.size) not in self._found]
        if new:
            for example, evidence in zip(
                new, self.task.evidence(self._model(arm), new, self.depth), strict=True
            ):
                self._found[example.id, arm.size] = evidence
        found = []
        for example in examples:
            evidence = self._found[example.id, arm.size]
            own = [self.task.leakage_guard and is_own(example, hit) for hit in evidence.hits]
            kept = [i for i, guarded in enumerate(own) if not guarded][: arm.k]
            weights = tuple(evidence.weights[i] for i in kept) if evidence.weights else ()
            found.append(
                replace(evidence, hits=tuple(evidence.hits[i] for i in kept), weights=weights)
            )
        return found

    def _model(self, arm: Arm) -> RetrievalAugmentedVLM:
        """The model, on as much of its base as the arm has."""
        if arm.size == 1:
            return self.model
        if arm.size not in self._shares:
            share: Any = KnowledgeBaseSubset(self.model.kb, arm.size)
            self._shares[arm.size] = type(self.model)(
                share, self.model.writer, self.model.k, self.model.max_false_answers
            )
        return self._shares[arm.size]

    def _random(self, example: Example, k: int) -> list[Hit]:
        if self._pool is None:
            modality: Modality = "text" if self.task.name != "retrieval" else "image"
            drawn = self.model.kb.sample(_POOL, modality, self.seed) or self.model.kb.sample(
                _POOL, "image", self.seed
            )
            self._pool = list(
                {entry.id: Hit(entry, 0.0, part) for entry, part, _ in drawn}.values()
            )
        rng = np.random.default_rng([self.seed, zlib.crc32(example.id.encode())])
        order = rng.permutation(len(self._pool))[: k + 1]
        hits = [self._pool[i] for i in order]
        return [hit for hit in hits if not (self.task.leakage_guard and is_own(example, hit))][:k]

    def _noisy(self, evidence: Evidence, example: Example, share: float) -> Evidence:
        """Each hit replaced by a random one with the probability `share`."""
        rng = np.random.default_rng([self.seed, 1, zlib.crc32(example.id.encode())])
        others = self._random(example, len(evidence.hits))
        drawn = rng.random(len(evidence.hits)) < share
        hits = [o if swap else h for h, o, swap in zip(evidence.hits, others, drawn, strict=False)]
        return replace(evidence, hits=tuple(hits), weights=evidence.weights[: len(hits)])

    def _gold(self, example: Example, k: int) -> list[Hit]:
        """Entries of the entity that is asked about; where none bears its name, those whose texts
        say what is right."""
        query = self.task.gold_query(example)
        kb, many = self.model.kb, 4 * k + 16
        named = kb.search(text=query, k=many, modality="text", options=SearchOptions("keyword"))
        hits = [hit for hit in named if entity_key(hit.entry) == query.casefold()]
        hits = hits or kb.search(text=query, k=k + _SPARE, modality="text")
        return [hit for hit in hits if not (self.task.leakage_guard and is_own(example, hit))][:k]


def is_own(example: Example, hit: Hit) -> bool:
    """The leakage guard: whether an entry is the example's own, by id, picture or group."""
    entry, group = hit.entry, example.metadata.get("group")
    if entry.id == example.id or (group is not None and entry.metadata.get("group") == group):
        return True
    return isinstance(example.image, str) and example.image == entry.image


def _trusted(hits: Sequence[Hit]) -> Evidence:
    """Evidence that is read whatever it is: no abstaining beforehand."""
    return Evidence(
        tuple(hits), (1 / len(hits),) * len(hits) if hits else (), trace={"found by": "arm"}
    )
