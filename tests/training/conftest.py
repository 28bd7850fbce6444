"""Data and models that several tests of training share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ravlm.data.readers import read_entries
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.generation.captioner.tokenizer import train_tokenizer
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Pair
from ravlm.training.caption_dataset import CaptionDataset
from ravlm.training.captioning_steps import CaptioningStep, GeneratorTrainingConfig
from ravlm.training.language_model import LanguageModelTrainingConfig
from ravlm.training.starter_generator import StarterGeneratorConfig, new_model
from ravlm.training.trainer import fit
from tests.helpers.fakes import FakeEncoder
from tests.helpers.training_data import CAPTIONS, caption_data

TrainedCaptioner = tuple[CaptionerModel, CaptionDataset, GeneratorTrainingConfig]


@pytest.fixture(scope="session")
def shape_pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Twelve images of a disc or a box in a color, two captions each."""
    folder = tmp_path_factory.mktemp("shapes")
    pairs = []
    for color in ("red", "green", "blue", "yellow", "white", "purple"):
        for shape in ("disc", "box"):
            image = Image.new("RGB", (96, 96), "black")
            draw = ImageDraw.Draw(image)
            (draw.ellipse if shape == "disc" else draw.rectangle)((20, 20, 76, 76), fill=color)
            path = folder / f"{color}-{shape}.png"
            image.save(path)
            texts = (f"a {color} {shape}", f"there is a {shape} in {color}")
            pairs.append(Pair(path, texts, id=path.stem))
    return pairs


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, KnowledgeBase]]:
    """Eight images with captions, in a file pairs.jsonl and in a base."""
    folder = tmp_path_factory.mktemp("animals")
    random = np.random.default_rng(1)
    rows = []
    for i, caption in enumerate(CAPTIONS):
        colors = random.integers(0, 255, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(colors).resize((64, 64)).save(folder / f"{i}.png")
        rows.append({"id": f"p{i}", "image": f"{i}.png", "texts": [caption, f"{caption} again"]})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = read_entries(folder / "pairs.jsonl")
    with KnowledgeBase.build(folder / "kb", entries, encoder=FakeEncoder()) as kb:
        yield folder, kb


@pytest.fixture(scope="session")
def trained_captioner(tmp_path_factory: pytest.TempPathFactory) -> TrainedCaptioner:
    """A captioner that has learned to read its evidence."""
    tokenizer = train_tokenizer(CAPTIONS, min_frequency=1)
    config = GeneratorTrainingConfig(
        epochs=100,
        batch_size=8,
        captions=1,
        num_evidence=1,
        num_candidates=1,
        evidence_dropout=0.2,
        word_dropout=0.0,
        ema_decay=0.0,
    )
    config = replace(config, learning_rate=3e-3, label_smoothing=0.0)
    language = LanguageModelTrainingConfig(width=64, layers=1, heads=2)
    model = new_model(StarterGeneratorConfig(language), len(tokenizer), 2)
    data = caption_data(tokenizer)
    step = CaptioningStep(model, data, config, data)
    fit(step, config.loop(8), tmp_path_factory.mktemp("first"))
    return model, data, config
