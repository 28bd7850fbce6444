"""Fixtures of the retrieval tests: a base of birds."""

from tests.helpers.birds import birds, word_encoder  # noqa: F401
