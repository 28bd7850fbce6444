"""ravlm: retrieval-augmented vision-language models. The public names, resolved on first use.

`import ravlm` imports none of them, and so never torch. What builds, searches and answers with the
starter never does.
"""
# ruff: noqa: F401 (what is imported for type checkers only is what __all__ names)

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Answer": "ravlm.records",
    "DualEncoder": "ravlm.encoders.auto",
    "Edit": "ravlm.records",
    "EncoderTrainingConfig": "ravlm.training.contrastive",
    "Entry": "ravlm.records",
    "GeneratorTrainingConfig": "ravlm.training.captioning_steps",
    "Hit": "ravlm.records",
    "KnowledgeBase": "ravlm.knowledge.base",
    "LanguageModelTrainingConfig": "ravlm.training.language_model",
    "LoraTrainingConfig": "ravlm.training.chat_generator",
    "OcrOptions": "ravlm.ocr.base",
    "Pair": "ravlm.records",
    "Part": "ravlm.records",
    "RavlmError": "ravlm.errors",
    "Region": "ravlm.regions",
    "RetrievalAugmentedVLM": "ravlm.model",
    "RetrieverTrainingConfig": "ravlm.training.retriever",
    "Score": "ravlm.records",
    "Source": "ravlm.records",
    "SearchOptions": "ravlm.search.options",
    "TrainingExample": "ravlm.training.training_examples",
    "compare": "ravlm.evaluation.compare",
    "merge_adapter": "ravlm.training.chat_generator",
    "metrics": "ravlm.metrics",
    "read_entries": "ravlm.data.readers",
    "read_pairs": "ravlm.data.readers",
    "tasks": "ravlm.tasks",
    "train_encoder": "ravlm.training.encoder",
    "train_generator": "ravlm.training.generator",
    "train_language_model": "ravlm.training.language_model",
    "train_retriever": "ravlm.training.retriever",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    from ravlm import metrics, tasks
    from ravlm.data.readers import read_entries, read_pairs
    from ravlm.encoders.auto import DualEncoder
    from ravlm.errors import RavlmError
    from ravlm.evaluation.compare import compare
    from ravlm.knowledge.base import KnowledgeBase
    from ravlm.model import RetrievalAugmentedVLM
    from ravlm.ocr.base import OcrOptions
    from ravlm.records import Answer, Edit, Entry, Hit, Pair, Part, Score, Source
    from ravlm.regions import Region
    from ravlm.search.options import SearchOptions
    from ravlm.training.captioning_steps import GeneratorTrainingConfig
    from ravlm.training.chat_generator import LoraTrainingConfig, merge_adapter
    from ravlm.training.contrastive import EncoderTrainingConfig
    from ravlm.training.encoder import train_encoder
    from ravlm.training.generator import train_generator
    from ravlm.training.language_model import LanguageModelTrainingConfig, train_language_model
    from ravlm.training.retriever import RetrieverTrainingConfig, train_retriever
    from ravlm.training.training_examples import TrainingExample


def __getattr__(name: str) -> Any:
    if name in _HOME:
        try:
            home = import_module(_HOME[name])
        except ModuleNotFoundError:
            from ravlm import runtime

            runtime.require_torch(f"ravlm.{name}")
            raise
        return home if _HOME[name] == f"ravlm.{name}" else getattr(home, name)
    raise AttributeError(f'module "ravlm" has no name "{name}"; it has: {", ".join(_HOME)}')


def __dir__() -> list[str]:
    return sorted(__all__)
