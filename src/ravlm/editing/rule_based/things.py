"""Things that have no model of their own, by the thousand classes of the starter's image network: a
cat, a boat, a cup.

Classes whose name is the word, or ends in it, vote at each place of the network's last grid. It is
coarse, and it knows what the classes know; anything else is not found."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ravlm.checkpoint import read_weights
from ravlm.data.text import is_chinese
from ravlm.editing.rule_based.stuff import log_shares
from ravlm.encoders.starter.gloss import Glosser, read_glossary
from ravlm.files import STARTER

KINDS: dict[str, tuple[range, ...]] = {
    "animal": (range(398),),
    "dog": (range(151, 269),),
    "bird": (range(7, 25), range(80, 101), range(127, 147)),
    "fish": (range(7), range(389, 398)),
    "snake": (range(52, 69),),
    "insect": (range(300, 327),),
    "monkey": (range(365, 383),),
    "fruit": (range(948, 958),),
}
"""Kinds of things -> the classes that are of them (the classes stand in an order of kinds),
whatever their names."""
SHOWN, SEEN = 0.15, 0.5
"""Shares that the classes must reach in the whole picture and at the best place."""
_EVEN = 0.2
"""Share at which a place is as likely of the thing as not."""
_SHORTEST = 4
"""Letters from which a word may be the end of another one: boat, of speedboat."""


class ThingFinder:
    """Places of named things in the last grid of the starter's image network."""

    @cached_property
    def _classifier(self) -> tuple[np.ndarray, np.ndarray]:
        weights = read_weights(STARTER)
        return weights["classifier.weight"].astype(np.float32), weights["classifier.bias"].astype(
            np.float32
        )

    @cached_property
    def _names(self) -> list[list[str]]:
        lines = (STARTER / "classes.txt").read_text(encoding="utf-8").splitlines()
        return [[name.strip().lower() for name in line.split(",")] for line in lines]

    @cached_property
    def _glosser(self) -> Glosser:
        return Glosser(read_glossary(STARTER / "glossary.tsv"), {})

    def classes(self, word: str) -> list[int]:
        """The classes that `word` names, English or Chinese; none where it names none."""
        word = (self._glosser.gloss(word) if is_chinese(word) else word).strip().lower()
        forms = {word, word.removesuffix("s"), word.removesuffix("es")} - {""}
        for form in forms & set(KINDS):
            return [n for some in KINDS[form] for n in some]
        return [
            n
            for n, names in enumerate(self._names)
            if any(_is_named(name, form) for name in names for form in forms)
        ]

    def find(self, grid: np.ndarray, word: str) -> np.ndarray | None:
        """How far each place of `grid` (1280, side, side) shows `word`, 0 to 1; None: not there."""
        classes = self.classes(word)
        if not classes:
            return None
        weight, bias = self._classifier
        whole = np.exp(log_shares(grid.mean((1, 2)) @ weight + bias))[classes].sum()
        places = self._places(grid, classes)
        return places / (places + _EVEN) if whole >= SHOWN and places.max() >= SEEN else None

    def sees(self, grid: np.ndarray, kind: str) -> bool:
        """Whether some place of `grid` shows one of `KINDS`."""
        return bool(self._places(grid, [n for some in KINDS[kind] for n in some]).max() >= SEEN)

    def _places(self, grid: np.ndarray, classes: list[int]) -> np.ndarray:
        """The share of `classes` at each place, (side, side)."""
        weight, bias = self._classifier
        return np.exp(log_shares(np.moveaxis(grid, 0, -1) @ weight + bias))[..., classes].sum(
            axis=-1
        )


def _is_named(name: str, word: str) -> bool:
    last = name.split()[-1]
    return (
        name == word
        or last == word
        or name.endswith(f" {word}")
        or (len(word) >= _SHORTEST and last.endswith(word))
    )
