"""Test whether an answer follows the base: it changes when a fact is added, and back when the fact
is removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ravlm.errors import InvalidInput
from ravlm.records import Answer, Entry, ImageSource

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


@dataclass(frozen=True)
class KnowledgeEdit:
    """The answers to a question before, with and after an entry."""

    before: Answer
    during: Answer
    after: Answer

    @property
    def changed(self) -> bool:
        """Whether the entry changed the answer."""
        return self.during.text != self.before.text

    @property
    def restored(self) -> bool:
        """Whether the answer after removing the entry equals the first one."""
        return self.after.text == self.before.text


def edit_knowledge(
    model: RetrievalAugmentedVLM, entry: Entry, question: str, image: ImageSource | None = None
) -> KnowledgeEdit:
    """Ask, add `entry` to the model's base (replacing an entry with its id), ask, undo, ask.

    The base has the same entries afterwards. Raises InvalidInput if the base refuses the entry."""
    kb = model.kb
    replaced = kb.get([entry.id])
    before = model.ask(question, image)
    report = kb.add([entry])
    if report.quarantined:
        raise InvalidInput(f"The base refused the entry: {report.quarantined[0].reason}")
    try:
        during = model.ask(question, image)
    finally:
        if replaced:
            kb.add(replaced)
        else:
            kb.remove(entry.id)
    return KnowledgeEdit(before, during, model.ask(question, image))
