"""Tasks: what a model is asked, on examples of a file, and how its answers score."""

from ravlm.tasks.base import Prediction, Task
from ravlm.tasks.captioning import Captioning
from ravlm.tasks.editing import Editing
from ravlm.tasks.retrieval import Retrieval
from ravlm.tasks.vqa import VQA

TASKS: dict[str, type[Task]] = {task.name: task for task in (Captioning, VQA, Retrieval, Editing)}
"""By the names that `ravlm compare` takes."""

__all__ = ["TASKS", "VQA", "Captioning", "Editing", "Prediction", "Retrieval", "Task"]
