"""Training examples for a small language model that writes only from numbered evidence.

Stories, answers and talk about invented things, whose names and values can't be known by heart,
and questions about passages; every sentence cites its entry: "It stands in Oren. [1]"."""

from ravlm.training.chat_examples import ChatExample
from recipes.grounded_dialogs.conversations import chat_examples
from recipes.grounded_dialogs.photos import renamed, story_about_photo
from recipes.grounded_dialogs.questions import question_examples
from recipes.grounded_dialogs.stories import story_examples

__all__ = [
    "ChatExample",
    "chat_examples",
    "question_examples",
    "renamed",
    "story_about_photo",
    "story_examples",
]
