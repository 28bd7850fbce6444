"""Tasks: what a model is asked about the examples of a file, and how its outputs are scored."""

from ravlm.tasks.base import Prediction, Task
from ravlm.tasks.captioning import Captioning
from ravlm.tasks.editing import Editing
from ravlm.tasks.retrieval import Retrieval
from ravlm.tasks.vqa import VQA

TASKS: dict[str, type[Task]] = {
    "captioning": Captioning,
    "vqa": VQA,
    "retrieval": Retrieval,
    "editing": Editing,
}
"""The tasks by the names that `ravlm compare` takes."""

__all__ = ["TASKS", "VQA", "Captioning", "Editing", "Prediction", "Retrieval", "Task"]
