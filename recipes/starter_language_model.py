"""Train the adapter of the starter language model:
`python -m recipes.starter_language_model --data DATA --kb KB --work runs/language_model`.

SmolLM2 gets image tokens and a LoRA adapter. It learns captions with evidence (flickr8k's train
split, evidence by cross-fitting, nouns renamed in caption and evidence alike), stories and answers
from numbered entries with invented names (`recipes/grounded_dialogs`), and stories about photos.
English only: its tokenizer takes two tokens per Chinese character. Resumable; the losses with
right, other and no evidence are logged at every save. `generator=FOLDER` loads the result.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ravlm import runtime
from ravlm.data.readers import read_entries
from ravlm.encoders.starter.config import StarterConfig
from ravlm.files import atomic_write
from ravlm.generation.base import Request
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.language_model import starter
from ravlm.generation.language_model.modeling import initial_projection
from ravlm.generation.language_model.processing import ImageChatProcessor
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import CLOSED_BOOK, Pair
from ravlm.retrieval.leakage import NEAR_DUPLICATE
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.chat_tuning import ChatTuningStep
from ravlm.training.evidence import (
    EvidenceTexts,
    evidence_texts,
    find_evidence,
    image_vectors,
    no_evidence,
)
from ravlm.training.features import PairFeatures, pair_features
from ravlm.training.lora import LoraConfig
from ravlm.training.trainer import LoopConfig, fit_once
from recipes.grounded_dialogs import (
    question_examples,
    renamed,
    story_about_photo,
    story_examples,
)
from recipes.grounded_dialogs.example import make_evidence
from recipes.grounded_dialogs.passages import PassageQuestions
from recipes.reading_data import read_examples
from recipes.starter_encoder import read_flickr8k

SCHEDULE = ("caption", "story", "caption", "question", "caption", "photo story")
"""Tasks of six steps in a row."""
BATCH_SIZES = {"caption": 12, "story": 8, "question": 12, "photo story": 8}
NUM_HELD_OUT = 32
NUM_SHOWN = 8
NUM_FOLDS = 5
RIDGE = 3.0


@dataclass(frozen=True)
class LanguageModelRecipe:
    """Schedule and data."""

    steps: int = 540
    learning_rate: float = 8e-4
    num_candidates: int = 8
    """Evidence per photo that is sampled from."""
    max_evidence: int = 4
    evidence_dropout: float = 0.15
    classes_dropout: float = 0.3
    renamed_share: float = 0.2
    seed: int = 0

    def loop(self) -> LoopConfig:
        """Return the schedule."""
        return LoopConfig(
            self.steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.steps // 30,
            weight_decay=0.01,
            seed=self.seed,
            save_every=100,
            log_every=10,
        )


class PhotoCaptions:
    """Photos with their captions, and captions of other photos as evidence."""

    def __init__(
        self, pairs: Sequence[Pair], evidence: EvidenceTexts, recipe: LanguageModelRecipe
    ) -> None:
        self.pairs = pairs
        self.evidence = evidence
        self.recipe = recipe

    def caption(self, number: int, rng: random.Random) -> ChatExample:
        """Return a photo with evidence and all its captions as replies."""
        captions = list(self.pairs[number].texts)
        others = self._evidence_captions(number, rng)
        captions, others = renamed(captions, others, rng, self.recipe.renamed_share)
        return ChatExample(self._request("caption", number, others, rng), tuple(captions))

    def story(self, number: int, rng: random.Random) -> ChatExample:
        """Return a photo with a story about it."""
        others = self._evidence_captions(number, rng)
        reply = story_about_photo(self.pairs[number].texts, others, rng)
        return ChatExample(self._request("tell", number, others, rng), (reply,))

    def _request(
        self, task: str, number: int, others: Sequence[str], rng: random.Random
    ) -> Request:
        evidence = make_evidence(others, rng) if others else CLOSED_BOOK
        return Request(task, image=self.pairs[number].image, evidence=evidence)  # type: ignore[arg-type]

    def _evidence_captions(self, number: int, rng: random.Random) -> list[str]:
        recipe, evidence = self.recipe, self.evidence
        if rng.random() < recipe.evidence_dropout:
            return []
        entries = [int(entry) for entry in evidence.entries[number] if entry >= 0]
        count = rng.randint(1, recipe.max_evidence) if rng.random() < 0.3 else recipe.max_evidence
        chosen = sorted(rng.sample(range(len(entries)), min(count, len(entries))))
        return [evidence.texts[evidence.text_offsets[entries[i]]] for i in chosen]


class GroundedExamples(ChatExamples):
    """All tasks, one per step in turn."""

    batch_size = max(BATCH_SIZES.values())

    def __init__(self, data: Path, photos: PhotoCaptions, processor: ImageChatProcessor) -> None:
        self.data = data
        self.photos = photos
        self.processor = processor

    @cached_property
    def _passages(self) -> PassageQuestions:
        return PassageQuestions(read_examples(self.data / "squad", "train"))

    def batch(self, index: int, rng: random.Random) -> list[ChatExample]:
        task = SCHEDULE[index % len(SCHEDULE)]
        size = BATCH_SIZES[task]
        self.processor.names_classes = rng.random() >= self.photos.recipe.classes_dropout
        if task == "story":
            return story_examples(rng, size, chinese_share=0.0)
        if task == "question":
            return question_examples(rng, size, self._passages, chinese_share=0.0)
        numbers = rng.sample(range(len(self.photos.pairs)), size)
        make = self.photos.caption if task == "caption" else self.photos.story
        return [make(number, rng) for number in numbers]


def photo_captions(
    data: Path, kb: KnowledgeBase, work: Path, recipe: LanguageModelRecipe
) -> PhotoCaptions:
    """Return the train photos with evidence by maps that were not fitted to them."""
    pairs, _ = read_flickr8k(data)
    vectors = image_vectors(kb, pairs)
    features = pair_features(pairs, StarterConfig().image_size, 1, work / "features")
    return PhotoCaptions(pairs, ridge_evidence(pairs, features, vectors, recipe), recipe)


def ridge_evidence(
    pairs: Sequence[Pair], features: PairFeatures, vectors: np.ndarray, recipe: LanguageModelRecipe
) -> EvidenceTexts:
    """Return captions of other photos by cross-fitting, as `cross_fit_evidence` does, with a ridge
    regression from image to text features in place of trained heads: seconds, not half an hour."""
    images = _unit(np.sqrt(features.images[0]))
    texts = _unit(features.texts)
    texts = _unit(texts - texts.mean(0))
    starts = features.offsets[:-1]
    means = np.add.reduceat(texts, starts) / np.diff(features.offsets)[:, None]
    fold_of = np.random.default_rng(recipe.seed).permutation(len(pairs)) % NUM_FOLDS
    entries, scores = no_evidence(len(pairs), recipe.num_candidates)
    for fold in range(NUM_FOLDS):
        train, rows = fold_of != fold, np.flatnonzero(fold_of == fold)
        x, y = images[train], means[train]
        center = x.mean(0)
        gram = (x - center).T @ (x - center) + RIDGE * np.eye(x.shape[1], dtype=np.float32)
        weights = np.linalg.solve(gram, (x - center).T @ y)
        cosines = _unit((images[rows] - center) @ weights) @ texts.T  # (rows, texts)
        best = np.maximum.reduceat(cosines, starts, axis=1)
        best[:, ~train] = -np.inf
        best[vectors[rows] @ vectors.T >= NEAR_DUPLICATE] = -np.inf
        for row, photo in enumerate(rows):
            nearest = np.argsort(-best[row])[: recipe.num_candidates]
            for column, other in enumerate(nearest):
                own = cosines[row, starts[other] : features.offsets[other + 1]]
                entries[photo, column] = starts[other] + int(own.argmax())
                scores[photo, column] = own.max()
    captions = [text for pair in pairs for text in pair.texts]
    return EvidenceTexts(entries, scores, np.arange(len(captions) + 1), captions)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def held_out_captions(data: Path, kb: KnowledgeBase, recipe: LanguageModelRecipe) -> PhotoCaptions:
    """Return dev photos with evidence as the product retrieves it."""
    pairs = read_flickr8k(data)[1][:NUM_HELD_OUT]
    hits = find_evidence(kb, pairs, image_vectors(kb, pairs), recipe.num_candidates, "text")
    evidence = evidence_texts(hits, recipe.num_candidates)
    return PhotoCaptions(pairs, evidence, replace(recipe, evidence_dropout=0.0, renamed_share=0.0))


def train(
    data: Path, kb: KnowledgeBase, work: Path, out: Path, recipe: LanguageModelRecipe
) -> None:
    """Train and save the adapter."""
    torch.manual_seed(recipe.seed)
    network, tokenizer = starter.base_model(runtime.inference_dtype(runtime.device()))
    network.image_projection.load_state_dict(initial_projection(network.config))
    processor = ImageChatProcessor(tokenizer)
    model = starter.StarterChatModel(network, tokenizer, processor, "starter")
    photos = photo_captions(data, kb, work, recipe)
    rng = random.Random(recipe.seed)
    held_out_photos = held_out_captions(data, kb, recipe)
    held_out = [held_out_photos.caption(number, rng) for number in range(NUM_HELD_OUT)]
    config = LoraConfig(modules_to_save=("image_projection",))
    examples = GroundedExamples(data, photos, processor)
    step = ChatTuningStep(ChatGenerator(model), examples, config, held_out)
    count = sum(parameter.numel() for parameter in step.model.parameters())
    print(f"{count:,} trained parameters", flush=True)
    fit_once(step, recipe.loop(), work / "tuning", lambda line: print(line, flush=True))
    save(step, out)
    show(out, held_out[:NUM_SHOWN])


def show(out: Path, examples: Sequence[ChatExample]) -> None:
    """Print what the saved adapter writes, next to the right replies."""
    generator = ChatGenerator(starter.load_starter(out))
    answers = generator.generate([example.request for example in examples])
    for example, answer in zip(examples, answers, strict=True):
        print(f"{answer.text}  (right: {example.replies[0]})", flush=True)


def save(step: ChatTuningStep, out: Path) -> None:
    """Save the adapter in half precision."""
    step.network.half()
    step.network.peft_config["default"].base_model_name_or_path = starter.BASE
    with atomic_write(out) as temporary:
        step.network.save_pretrained(temporary, save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)


def main() -> None:
    """Parse the options and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kb", type=Path, required=True, help="base of flickr8k's train split")
    parser.add_argument("--work", type=Path, default=Path("runs/language_model"))
    parser.add_argument("--out", type=Path, default=Path("runs/language_model/adapter"))
    parser.add_argument("--steps", type=int, default=LanguageModelRecipe.steps)
    options = parser.parse_args()
    entries = read_entries(options.data / "flickr8k" / "metadata.jsonl")
    train_entries = (entry for entry in entries if entry.metadata["split"] == "train")
    with KnowledgeBase.build(options.kb, train_entries) as kb:
        recipe = LanguageModelRecipe(steps=options.steps)
        train(options.data, kb, options.work, options.out, recipe)


if __name__ == "__main__":
    main()
