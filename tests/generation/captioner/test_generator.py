"""The captioner as people use it: saved, loaded from its folder, captions with evidence, other
tasks by the fallback."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.generation.base import Request
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.generator import Beam, CaptionerGenerator, hit_captions
from ravlm.generation.captioner.processing import StarterProcessor, pad_evidence
from ravlm.generation.captioner.settings import CaptionerSettings, read_settings
from ravlm.generation.captioner.tokenizer import train_tokenizer
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import CLOSED_BOOK, Entry, Evidence, Hit, Part
from ravlm.retrieval.image_retriever import ImageRetriever
from ravlm.training.language_model import LanguageModelTrainingConfig
from ravlm.training.starter_generator import StarterGeneratorConfig, new_model
from tests.generation.conftest import bird
from tests.helpers.fakes import FakeEncoder

TEXTS = ["a red bird sits on a branch", "a green bird flies over the sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights: nonsense, but the same each time."""
    tokenizer = train_tokenizer(TEXTS, min_frequency=1)
    language = LanguageModelTrainingConfig(width=64, layers=1, heads=2, max_length=64)
    model = new_model(StarterGeneratorConfig(language, seed=1), len(tokenizer), 2)
    settings = CaptionerSettings(image_size=64, max_new_tokens=6, num_beams=2)
    path = tmp_path_factory.mktemp("generators") / "captioner"
    CaptionerGenerator(model, tokenizer, StarterProcessor(64), settings).save(path)
    return path


def request(colour: tuple[int, int, int], *texts: str, task: str = "caption") -> Request:
    hits = tuple(
        Hit(Entry(f"e{i}", None, (text,)), 0.5, Part("image")) for i, text in enumerate(texts)
    )
    evidence = Evidence(hits, (0.5,) * len(hits)) if hits else CLOSED_BOOK
    return Request(task, "", bird(colour, 1), evidence)  # type: ignore[arg-type]


def test_a_folder_is_a_generator(folder: Path, birds: KnowledgeBase) -> None:
    model = RetrievalAugmentedVLM(birds, generator=str(folder))
    pictures = [bird((200, 30, 30), 90), bird((30, 180, 40), 91)]
    together = model.caption(pictures)
    assert [answer.text for answer in together] == [
        model.caption(picture).text for picture in pictures
    ]
    assert model.generator.name == str(folder)
    assert all(answer.text.endswith(".") and answer.evidence for answer in together)
    assert model.ask(
        "What is the name?", image=pictures[0]
    ).citations  # the extractive generator answers


def test_a_long_list_is_captioned_in_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of 200 images was one batch of 200, and the caller's random numbers were reseeded."""
    generator = CaptionerGenerator.load(folder)
    sizes: list[int] = []
    search = generator.beam_search

    def record(inputs: dict[str, torch.Tensor]) -> list[list[Beam]]:
        sizes.append(len(next(iter(inputs.values()))))
        return search(inputs)

    monkeypatch.setattr(generator, "beam_search", record)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    colors = [(8 * i, 200 - 8 * i, 90) for i in range(20)]
    answers = generator.generate([request(color, TEXTS[0]) for color in colors])
    assert torch.equal(torch.rand(3), expected)
    assert sizes == [16, 4]
    assert len(answers) == 20


def test_batches_evidence_and_the_closed_book(folder: Path) -> None:
    """Evidence of different length in one batch; a request gets the same caption as alone."""
    generator = CaptionerGenerator.load(folder)
    requests = [request((200, 0, 0), *TEXTS), request((0, 200, 0), TEXTS[1]), request((0, 0, 200))]
    together = [answer.text for answer in generator.generate(requests)]
    assert together == [generator.generate([one])[0].text for one in requests]
    assert len(together[0].split()) <= 6
    assert generator.generate([]) == []


def test_other_tasks_need_a_fallback(folder: Path) -> None:
    with pytest.raises(InvalidInput, match='only writes captions and cannot do "ask"'):
        CaptionerGenerator.load(folder).generate([request((9, 9, 9), task="ask")])
    alone = CaptionerGenerator.load(folder).generate([Request("caption", "", None)])[0]
    assert alone.abstained


def test_a_checkpoint_without_a_weight_is_refused(folder: Path, tmp_path: Path) -> None:
    """Transformers would initialize it at random and only log it."""
    weights = load_file(folder / "model.safetensors")
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    gone = weights.pop("encoder.image_projection.1.weight")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(BrokenData, match=r"missing keys encoder\.image_projection\.1\.weight"):
        CaptionerGenerator.load(broken)
    more = weights | {"encoder.image_projection.1.weight": gone, "extra": gone[:1].copy()}
    save_file(more, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(BrokenData, match="unexpected keys extra"):
        CaptionerGenerator.load(broken)
    (broken / "generator.json").write_text(json.dumps({"beems": 3}))
    with pytest.raises(Exception, match="beems"):
        CaptionerGenerator.load(broken)
    (broken / "generator.json").unlink()
    with pytest.raises(NotFound, match="is not a captioner"):
        CaptionerGenerator.load(broken)


def test_states_are_cut_to_the_budget_and_cached_within_a_bound() -> None:
    processor = StarterProcessor(64, cache_size=2)
    inputs = processor.evidence_inputs([[*TEXTS, "a cat"], ["a dog"]], max_tokens=9)
    assert inputs["evidence_states"].shape[:2] == (2, 3)
    assert inputs["evidence_mask"].sum((1, 2)).tolist() == [9, 4]  # a dog: 2 words and 2 marks
    assert len(processor._cache) == 2
    assert processor.evidence_inputs([[], []], 9) == {}
    images = processor.image_inputs([Image.new("RGB", (90, 40), "red"), Image.new("L", (30, 80))])
    assert tuple(images["image_states"].shape) == (2, 4, 208)
    one, two = processor.text_states(["a dog", "a red cat"])
    mask = pad_evidence([[one, two], [two]])["evidence_mask"]
    assert mask.sum(-1).tolist() == [[4, 5], [5, 0]]


def test_a_base_with_another_vocabulary_goes_to_the_fallback(
    folder: Path,
    birds: KnowledgeBase,
) -> None:
    """A model of "a red bird sits" has no words for a shop's catalog, nor for Chinese: its
    captions of such a base were the nearest thing it could spell."""
    generator = CaptionerGenerator.load(folder, fallback=ExtractiveGenerator(birds.encoder))
    own, shop, chinese = generator.generate(
        [
            request((200, 0, 0), *TEXTS),
            request(
                (200, 0, 0),
                "EKTORP sofa with washable cover and three cushions",
                "STRANDMON wing chair",
            ),
            request((200, 0, 0), "一只红色的鸟", "树上的鸟"),
        ]
    )
    assert own.trace["generator"] == "captioner"
    assert "cover" in shop.text or "wing" in shop.text
    assert "鸟" in chinese.text
    assert (
        CaptionerGenerator.load(folder)
        .generate([request((200, 0, 0), "EKTORP sofa")])[0]
        .trace["generator"]
        == "captioner"
    )


def test_evidence_is_retrieved_by_the_generators_modality(tmp_path: Path) -> None:
    """A red image that is called blue: the nearest to red by image, the farthest by text."""
    red, blue = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    entries = [
        Entry("red", red, ("the blue one", "a thing")),
        Entry("blue", blue, ("a thing", "the red one")),
    ]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()) as kb:
        retriever = ImageRetriever(kb)
        by_image = retriever.retrieve({0: red}, 2)[0].hits
        by_text = retriever.retrieve({0: red}, 2, modality="text")[0].hits
        assert [hit.entry.id for hit in by_image] == ["red", "blue"]
        assert [hit_captions(hit)[0] for hit in by_image] == ["the blue one", "a thing"]
        assert by_text[0].entry.id == "blue"
        assert hit_captions(by_text[0]) == ["the red one"]  # the text that was found, not the first
    with KnowledgeBase.build(
        tmp_path / "mute", [Entry("red", red, ())], encoder=FakeEncoder()
    ) as mute:
        hits = ImageRetriever(mute).retrieve({0: red}, 2, modality="text")[0].hits
        assert hits[0].entry.id == "red"  # no text: by images


def test_the_best_beam_agrees_with_the_evidence(folder: Path) -> None:
    generator = CaptionerGenerator.load(folder)
    asked = request((200, 0, 0), "a green bird flies over the sea", "a green bird over the sea")
    beams = [Beam("A red bird sits.", -1.0), Beam("A green bird flies over the sea.", -1.1)]
    assert generator.best_beam(asked, beams).text == "A red bird sits."
    generator.settings = replace(generator.settings, agreement_weight=1.0)
    assert generator.best_beam(asked, beams) == beams[1]
    assert generator.best_beam(request((200, 0, 0)), beams) == beams[0]  # closed book


def test_an_unsure_caption_is_replaced_by_the_retrieved_one(folder: Path) -> None:
    generator = CaptionerGenerator.load(folder)
    generator.settings = replace(generator.settings, confidence_threshold=0.55)
    asked = request((200, 0, 0), "A striped cat sleeps.", "A bird sits.")
    sure, guess = (
        generator._answer(asked, "A bird sits.", 0.6),
        generator._answer(asked, "A bird sits.", 0.5),
    )
    assert (sure.text, sure.citations) == ("A bird sits.", ("e1",))
    assert (guess.text, guess.citations) == ("A striped cat sleeps.", ("e0",))
    assert guess.trace["unsure caption"] == "A bird sits."
    assert (
        generator._answer(request((200, 0, 0)), "A bird sits.", 0.5).text == "A bird sits."
    )  # no evidence


def test_the_unknown_token_is_never_generated(folder: Path) -> None:
    """ "A closeup of a cat looking at a.": the last word was <unk>, which was left out when the
    text was made."""
    generator = CaptionerGenerator.load(folder)
    bias = torch.zeros(len(generator.tokenizer))
    bias[generator.tokenizer.unk_token_id] = 100.0
    generator.model.decoder.head.bias = torch.nn.Parameter(bias)
    inputs = generator.processor.image_inputs([bird((200, 0, 0), 1)])
    assert all(text for text, _ in generator.beam_search(inputs)[0])


def test_it_is_trained_like_a_transformers_model(folder: Path) -> None:
    """`model.generator` of a trainable model has a loss, parameters and `generate` of its own."""
    generator = CaptionerGenerator.load(folder)
    inputs = generator.processor.image_inputs([bird((200, 0, 0), 1), bird((0, 200, 0), 2)])
    labels = torch.tensor([[4, 5, 2], [6, 2, -100]])
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = generator.train()(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert generator.training
    assert not generator.eval().training
    ids = generator.generate(**inputs, max_new_tokens=3)
    assert torch.equal(ids, generator.model.generate(**inputs, max_new_tokens=3))
    names = [name for name, _ in generator.named_parameters()]
    assert len(names) == len(list(generator.parameters()))
    assert set(names) <= set(generator.state_dict())
    assert generator.num_parameters() == generator.model.num_parameters()
    assert (generator.config, generator.device) == (generator.model.config, torch.device("cpu"))
    loaded = CaptionerGenerator.load(folder)
    loaded.load_state_dict(generator.state_dict())
    assert torch.equal(loaded.to(torch.float32).generate(**inputs, max_new_tokens=3), ids)


def test_folders_with_earlier_names_are_read(folder: Path, tmp_path: Path) -> None:
    """Settings, configuration and weights of captioners that were saved before names changed."""
    earlier = tmp_path / "earlier"
    shutil.copytree(folder, earlier)
    settings = {"sources": "starter", "image_size": 64, "beams": 2, "most_words": 6}
    (earlier / "generator.json").write_text(json.dumps(settings | {"least_sure": 0.5}))
    assert read_settings(earlier) == CaptionerSettings(
        image_size=64, num_beams=2, max_new_tokens=6, confidence_threshold=0.5
    )
    config = json.loads((folder / "config.json").read_text())
    renamed = {"image_width": "picture_width", "image_stage": "picture_stage"}
    config = {renamed.get(key, key): value for key, value in config.items()}
    (earlier / "config.json").write_text(json.dumps(config))
    new, old = CaptionerGenerator.load(folder), CaptionerGenerator.load(earlier)
    assert (old.config.image_width, old.config.image_stage) == (1280, True)
    inputs = new.processor.image_inputs([bird((200, 0, 0), 1)])
    assert new.beam_search(inputs) == old.beam_search(inputs)
    for fusion, name in (("prompt", "prefix"), ("marginal_prompt", "marginal_prefix")):
        assert CaptionerConfig.from_dict({"fusion": fusion}).fusion == name
