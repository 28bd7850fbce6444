"""Whether an answer follows the base: a fact is put in and the answer changes; taken out, it goes
back.

Writes to the base and leaves it as it was. Knows no task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ravlm.errors import InvalidInput
from ravlm.records import Answer, Entry, ImageSource

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


@dataclass(frozen=True)
class KnowledgeEdit:
    """The answers to one question before, with and after an entry."""

    before: Answer
    during: Answer
    after: Answer

    @property
    def changed(self) -> bool:
        """Whether the entry changed the answer."""
        return self.during.text != self.before.text

    @property
    def restored(self) -> bool:
        """Whether the answer without the entry is the first one again."""
        return self.after.text == self.before.text


def edit_knowledge(
    model: RetrievalAugmentedVLM, entry: Entry, question: str, image: ImageSource | None = None
) -> KnowledgeEdit:
    """Ask, add `entry` to the model's base (in the place of the one with its id), ask, put things
    back, ask."""
    kb = model.kb
    there = kb.get([entry.id])
    before = model.ask(question, image)
    report = kb.add([entry])
    if report.quarantined:
        raise InvalidInput(f"The entry was refused: {report.quarantined[0].reason}")
    try:
        during = model.ask(question, image)
    finally:
        if there:
            kb.add(there)
        else:
            kb.remove(entry.id)
    return KnowledgeEdit(before, during, model.ask(question, image))
