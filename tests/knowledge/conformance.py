"""The conformance test of all knowledge-base backends.

A backend subclasses `Conformance` and provides locations for its bases.
Vectors of the fake encoder can be read: red images and the word "red" are close to each other.
"""

from __future__ import annotations

from tests.knowledge.conformance_entries import EntryConformance
from tests.knowledge.conformance_fixtures import color_entries, ids
from tests.knowledge.conformance_multi_vector import MultiVectorConformance
from tests.knowledge.conformance_regions import RegionConformance
from tests.knowledge.conformance_search import SearchConformance

__all__ = ["Conformance", "color_entries", "ids"]


class Conformance(SearchConformance, EntryConformance, RegionConformance, MultiVectorConformance):
    """Subclasses provide the fixture `locations`, and `has_keywords` if a server may lack it."""
