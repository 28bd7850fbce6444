"""Training a captioner: which evidence it gets, that it learns to read it, and that rewards
work."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ravlm.cli import main
from ravlm.data.readers import read_pairs
from ravlm.errors import InvalidInput
from ravlm.generation.captioner.from_backbones import captioner_from_backbones
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.tokenizer import detokenize, train_tokenizer
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics.cider import cider_frequencies
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry, Pair
from ravlm.training.captioning_steps import (
    CaptioningStep,
    GeneratorTrainingConfig,
    SelfCriticalStep,
)
from ravlm.training.chat_generator import LoraTrainingConfig
from ravlm.training.evidence import (
    EvidenceCandidates,
    EvidenceStates,
    find_evidence,
    sample_evidence,
    top_evidence,
)
from ravlm.training.generator import train_generator
from ravlm.training.language_model import LanguageModelTrainingConfig, train_language_model
from ravlm.training.starter_generator import StarterGeneratorConfig, new_generator
from ravlm.training.trainer import fit
from tests.helpers.encoder_checkpoints import vit
from tests.helpers.fakes import FakeEncoder
from tests.helpers.language_checkpoints import gpt2
from tests.helpers.training_data import CAPTIONS, NOUNS
from tests.training.conftest import TrainedCaptioner


def test_it_reads_evidence_and_works_closed_book(
    trained_captioner: TrainedCaptioner,
) -> None:
    """The images are equal, so closed book it can only guess one of eight nouns; the evidence names
    it."""
    model, data, config = trained_captioner
    figures = CaptioningStep(model, data, config, data).evaluate()
    assert figures["held-out loss"] < 0.1
    assert (
        figures["held-out loss, closed book"] > np.log(8) / 7
    )  # 7 tokens, one of them to be guessed


def test_self_critical_training_increases_the_reward(
    trained_captioner: TrainedCaptioner, tmp_path: Path
) -> None:
    """Without evidence it writes any noun; with a reward for "dog" it learns to write "dog"."""
    model, data, _ = trained_captioner
    model = copy.deepcopy(model)  # other tests use it too
    tokenizer = train_tokenizer(CAPTIONS, min_frequency=1)
    references = [[CAPTIONS[0]]] * 8
    critical = GeneratorTrainingConfig(
        epochs=30,
        batch_size=8,
        evidence_dropout=1.0,
        learning_rate=2e-3,
        ema_decay=0.0,
        num_samples=4,
        max_length=8,
    )
    say = partial(tokenizer.decode, skip_special_tokens=True)
    frequencies = cider_frequencies([[text] for text in CAPTIONS], tokenize="none")
    step = SelfCriticalStep(model, data, critical, references, frequencies, say)
    before = float(step.losses(0, torch.Generator().manual_seed(0))["reward"])
    fit(step, critical.loop(8), tmp_path)
    after = float(step.losses(0, torch.Generator().manual_seed(0))["reward"])
    assert after > before + 1
    assert after > 6  # of at most 10


def test_evidence_does_not_leak(tmp_path: Path) -> None:
    """By id, group, path and appearance: a copy of the image under another id once leaked."""
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)).resize((48, 48))
        for _ in range(6)
    ]
    entries = [
        Entry(f"e{i}", picture, (f"text {i}",), {"group": i // 2})
        for i, picture in enumerate(pictures)
    ]
    entries.append(Entry("copy", pictures[0], ("the same picture",)))
    encoder = FakeEncoder()
    pairs = [Pair(pictures[i], (f"text {i}",), f"e{i}", {"group": i // 2}) for i in (0, 3)]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=encoder) as kb:
        vectors = encoder.encode_images([pair.image for pair in pairs])
        evidence = find_evidence(kb, pairs, vectors, 8)
        ids = [{hit.entry.id for hit in hits} for hits in evidence]
        by_text = find_evidence(kb, pairs, vectors, 8, "text")
        assert [{hit.entry.id for hit in hits} for hits in by_text] == ids
    assert ids == [{"e2", "e3", "e4", "e5"}, {"e0", "e1", "e4", "e5", "copy"}]
    with (
        KnowledgeBase.build(
            tmp_path / "words", [Entry("w", None, ("a text",))], encoder=encoder
        ) as words,
        pytest.raises(InvalidInput, match="contains no images, but evidence is retrieved by image"),
    ):
        find_evidence(words, pairs, np.zeros((2, encoder.dim)), 8)


def test_evidence_sampling() -> None:
    """k of the candidates in their order, one text of each entry, none with dropout 1."""
    near = np.array([[4, 2, 0, -1], [1, 3, -1, -1]])
    scores = np.where(near < 0, -np.inf, 0.1 * near).astype(np.float32)
    evidence = EvidenceCandidates(near, scores, np.arange(0, 21, 4))
    random = np.random.default_rng(0)
    for _ in range(50):
        texts, near_by = sample_evidence(evidence, np.array([0, 1]), 2, 0.0, random)
        texts //= 4
        assert near_by == pytest.approx(0.1 * texts)
        assert texts[0].tolist() in ([4, 2], [4, 0], [2, 0])
        assert texts[1].tolist() == [1, 3]
    texts, near_by = sample_evidence(evidence, np.array([0, 1]), 2, 1.0, random)
    assert (texts == -1).all()
    assert np.isneginf(near_by).all()
    assert top_evidence(evidence, np.array([0, 1]), 3)[0].tolist() == [[16, 8, 0], [4, 12, -1]]
    states, mask = EvidenceStates(
        near, scores, near[0], np.arange(12).reshape(6, 2), np.array([0, 1, 4, 6])
    ).pad(np.array([[1, -1], [0, 2]]))
    assert mask.sum(-1).tolist() == [[3, 0], [1, 2]]
    assert states[0, 0].tolist() == [[2, 3], [4, 5], [6, 7]]
    assert states[1, 1].tolist() == [[8, 9], [10, 11], [0, 0]]


def test_a_vocabulary_of_whole_words() -> None:
    tokenizer = train_tokenizer(["A dog's ball, a DOG!", "a dog 在草地上", "草地"], min_frequency=2)
    assert tokenizer.tokenize("A dog; the dog's 草地") == ["a", "dog", "<unk>", "<unk>", "草", "地"]
    ids = tokenizer("a dog")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "a", "dog", "</s>"]
    assert detokenize(["a", "dog", "'s"]) == "A dog 's."
    assert detokenize(["草", "地", "上", "的", "dog"]) == "草地上的 dog."
    assert detokenize([]) == ""
    with pytest.raises(InvalidInput, match="No word occurs 9 times"):
        train_tokenizer(["a dog"], min_frequency=9)


def test_a_captioner_from_backbones_is_trained_with_evidence(
    animals: tuple[Path, KnowledgeBase], tmp_path: Path
) -> None:
    """Marginal fusion, which needs scores; the folder becomes a generator and is trained only
    once."""
    home, kb = animals
    with pytest.warns(UserWarning, match="not yet trained"):
        generator = captioner_from_backbones(
            gpt2(tmp_path / "gpt2"), vit(tmp_path / "vit"), fusion="marginal_prefix"
        )
    pairs = list(read_pairs(home / "pairs.jsonl"))
    config = GeneratorTrainingConfig(
        epochs=6, batch_size=4, captions=2, num_evidence=2, num_candidates=3, learning_rate=1e-3
    )
    lines: list[str] = []
    out = tmp_path / "out"
    critical = replace(config, epochs=1, num_samples=2)
    both = replace(config, self_critical=critical)
    train_generator(generator, pairs[:6], kb, out, both, pairs[6:], lines.append)
    losses = [json.loads(line) for line in (out / "first" / "log.jsonl").read_text().splitlines()]
    assert losses[-1]["held-out loss"] < losses[0]["loss"]
    assert "reward" in (out / "critical" / "log.jsonl").read_text()
    assert CaptionerGenerator.load(out).model.config.fusion == "marginal_prefix"
    with pytest.raises(InvalidInput, match="already contains a trained generator"):
        train_generator(generator, pairs, kb, out, config)
    with pytest.raises(InvalidInput, match="is a LoraTrainingConfig; this model"):
        train_generator(generator, pairs, kb, tmp_path / "other", LoraTrainingConfig())
    with pytest.raises(
        InvalidInput, match="folds is 5, but cross-fitting needs evidence retrieved by text"
    ):
        train_generator(generator, pairs, kb, tmp_path / "other", replace(config, folds=5))
    with pytest.raises(InvalidInput, match="There are no pairs to train on"):
        train_generator(generator, [], kb, tmp_path / "other")


def test_the_command_trains_on_the_starters_backbones(
    animals: tuple[Path, KnowledgeBase], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Closed book, without a base; the resulting generator writes captions and can be trained
    further."""
    home, _ = animals
    pairs, out = str(home / "pairs.jsonl"), tmp_path / "out"
    options = [
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--accumulate",
        "2",
        "--min-frequency",
        "1",
        "--held-out",
        "0",
        "--json",
    ]
    assert main(["train", "generator", "--pairs", pairs, "--out", str(out), *options]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["generator"] == str(out)
    assert output["step"] == 2
    assert RetrievalAugmentedVLM(None, generator=out).caption(home / "0.png").text
    again = ["--generator", str(out), "--self-critical-epochs", "1", *options]
    assert (
        main(["train", "generator", "--pairs", pairs, "--out", str(tmp_path / "more"), *again]) == 0
    )
    assert "reward" in (tmp_path / "more" / "critical" / "log.jsonl").read_text()
    assert (tmp_path / "more" / "critical" / "curve.png").is_file()
    assert capsys.readouterr().err.count("it/s") == 0  # no progress bars of Transformers
    assert main(["train", "generator", "--pairs", pairs, "--out", str(out), "--vision", "vit"]) == 2
    assert "--language" in capsys.readouterr().err


def test_the_decoder_starts_from_a_language_model(
    animals: tuple[Path, KnowledgeBase], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights and vocabulary come from the language model; the layers for images and evidence are
    new."""
    home, _ = animals
    config = LanguageModelTrainingConfig(
        epochs=1, batch_size=8, width=32, layers=1, heads=2, min_frequency=1, held_out=0
    )
    language = train_language_model(CAPTIONS * 2, tmp_path / "language", config)
    generator = new_generator([], StarterGeneratorConfig(), tmp_path / "language")
    assert len(generator.tokenizer) == 4 + 5 + len(NOUNS)
    torch.testing.assert_close(
        generator.model.decoder.layers[0].feed_forward[0].weight,
        language.layers[0].feed_forward[0].weight,
    )
    pairs = [
        "--pairs",
        str(home / "pairs.jsonl"),
        "--out",
        str(tmp_path / "out"),
        "--batch-size",
        "4",
        "--epochs",
        "1",
    ]
    assert main(["train", "generator", *pairs, "--language", str(tmp_path / "language")]) == 0
    assert (
        CaptionerGenerator.load(tmp_path / "out").tokenizer.get_vocab()
        == generator.tokenizer.get_vocab()
    )
    with pytest.warns(UserWarning, match="not yet trained"):
        captioner_from_backbones(gpt2(tmp_path / "gpt2"), vit(tmp_path / "vit"))
    capsys.readouterr()
    assert main(["train", "generator", *pairs, "--language", str(tmp_path / "gpt2")]) == 1
    assert (
        'contains a "gpt2" model, which cannot encode images. Add an image model: --vision'
        in capsys.readouterr().err
    )
    assert main(["train", "generator", *pairs, "--language", str(tmp_path / "none")]) == 1
    assert "Train one: ravlm train language" in capsys.readouterr().err
