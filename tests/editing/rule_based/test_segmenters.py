"""Conformance of every segmenter, and what the starter's and those of Transformers find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ravlm.editing.auto import load_editor, load_segmenter
from ravlm.editing.base import EditRequest
from ravlm.editing.resize import resize_map
from ravlm.editing.rule_based import text_segmenters
from ravlm.editing.rule_based.editor import RuleBasedEditor
from ravlm.editing.rule_based.mask_refinement import upscale_mask
from ravlm.editing.rule_based.segmentation import Scene, Segmenter
from ravlm.editing.rule_based.starter_segmenter import (
    StarterSegmenter,
    sharpen_by_color,
    word_probability,
)
from ravlm.editing.rule_based.stuff import GRID, PARTS, WORDS, resize_to_square
from ravlm.editing.rule_based.things import ThingDetector
from ravlm.encoders.starter.backbones import ImageBackbone
from ravlm.encoders.starter.efficientnet import MIDDLE
from ravlm.encoders.starter.efficientnet_torch import load_network
from ravlm.errors import Mismatch, NotFound
from tests.helpers import encoder_checkpoints
from tests.helpers.editors import ColorSegmenter, iou, landscape, true_mask
from tests.helpers.segmenters import clipseg, owlvit


def photo(name: str) -> Image.Image:
    """One of the photos that come with scikit-image."""
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def fake(folder: Path) -> Segmenter:
    return ColorSegmenter()


def starter(folder: Path) -> Segmenter:
    return StarterSegmenter()


def clipseg_segmenter(folder: Path) -> Segmenter:
    return load_segmenter(clipseg(folder))


def owlvit_segmenter(folder: Path) -> Segmenter:
    return load_segmenter(owlvit(folder))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept everything: a model with random weights is sure of nothing."""
    monkeypatch.setattr(text_segmenters, "MIN_MAP_PEAK", 0.0)
    monkeypatch.setattr(text_segmenters, "MIN_BOX_SCORE", 0.0)


@pytest.mark.parametrize("make", [fake, starter, clipseg_segmenter, owlvit_segmenter])
@pytest.mark.usefixtures("lenient")
def test_every_segmenter_keeps_the_contract(
    make: Callable[[Path], Segmenter], tmp_path: Path
) -> None:
    """`find` returns a probability map or None, and finds every visible word.

    Analyzing an image again gives the same, and each image is a scene of its own.
    """
    segmenter = make(tmp_path / "checkpoint")
    upright = photo("astronaut").resize((96, 72))
    for image in (landscape(), upright, Image.new("RGB", (1, 1))):
        scene = segmenter.analyze(image)
        assert isinstance(scene, Scene)
        visible = scene.visible_words()
        assert set(visible) <= set(WORDS[:-1])
        for word in ("sky", "person", *visible[:1]):
            probability = scene.find(word)
            assert probability is not None or word not in visible
            if probability is not None:
                assert probability.ndim == 2
                assert 0 <= probability.min() <= probability.max() <= 1
                again = segmenter.analyze(image).find(word)
                assert again is not None
                assert np.array_equal(probability, again)
    one, two = (
        segmenter.analyze(image).find("sky") for image in (landscape(), landscape().rotate(180))
    )
    assert one is None or two is None or not np.array_equal(one, two)


@pytest.mark.usefixtures("lenient")
def test_each_word_has_a_map_of_its_own(tmp_path: Path) -> None:
    """The word reaches the model: two words get different maps."""
    scene = clipseg_segmenter(tmp_path / "checkpoint").analyze(photo("astronaut"))
    sky, dog = scene.find("sky"), scene.find("dog")
    assert sky is not None
    assert dog is not None
    assert not np.array_equal(sky, dog)


class BoxModel:
    """Returns a box around the person of `landscape` when it is asked for the sea."""

    model_max_length = 16

    def __init__(self, model_type: str, box: tuple[float, ...]) -> None:
        self.config = SimpleNamespace(model_type=model_type)
        self.box = box

    def __call__(self, texts: Any = None, images: Any = None, word: str = "", **inputs: Any) -> Any:
        if texts:
            return {"word": texts[0]}
        if images:
            return {"pixels": images}
        logits = torch.full((1, 3, 1), -9.0)
        logits[0, 1] = 2.0 if word == "a photo of water" else -4.0
        return SimpleNamespace(
            logits=logits, pred_boxes=torch.tensor([[(0.0,) * 4, self.box, (0.5,) * 4]])
        )


@pytest.mark.parametrize(
    ("model_type", "box"),
    [("owlvit", (0.42, 0.5, 0.25, 0.6)), ("owlv2", (0.42, 0.375, 0.25, 0.45))],
    ids=["owlvit", "owlv2"],
)
def test_a_box_is_refined_to_what_is_in_it(model_type: str, box: tuple[float, ...]) -> None:
    """OWL-ViT returns a box; the thing is what has colors of the box but not of its surroundings.

    OWLv2 pads an image to a square at the bottom, and its boxes are relative to that square.
    """
    image = landscape(800, 600)
    model = BoxModel(model_type, box)
    find = text_segmenters._find_by_boxes
    scene = text_segmenters.TextSegmenter(model, (model, model), find).analyze(image)
    assert scene.find("sky") is None
    probability = scene.find("sea")
    assert probability is not None
    assert iou(resize_map(probability, image.size) > 0.5, true_mask(image, "person")) > 0.9


def test_an_absent_word_is_refused(tmp_path: Path) -> None:
    strict = text_segmenters.TextSegmenter(None, None, lambda model, processor, image, word: None)
    scene = strict.analyze(landscape())
    assert scene.find("sky") is None
    assert scene.visible_words() == ()
    edit = RuleBasedEditor(strict).edit(EditRequest(landscape(), "make the sky red"))
    assert edit.region is None
    assert "don't see the sky" in edit.understood


def test_unsuitable_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match=r'a "clip" model, .* Supported: clipseg, owlvit, owlv2'):
        load_segmenter(encoder_checkpoints.clip(tmp_path / "clip"))
    folder = Path(clipseg(tmp_path / "clipseg"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotFound):
        load_editor("local", folder)


# the starter's


def test_the_starter_finds_the_sky_of_a_photo() -> None:
    """The sky behind the rocket reaches down to the plain and shows between the towers."""
    sky = StarterSegmenter().analyze(photo("rocket")).find("sky")
    assert sky is not None
    mask = sky > 0.5
    height, width = mask.shape
    assert mask[: height // 2, : width // 4].mean() > 0.98
    assert mask[-height // 12 :].mean() < 0.1


def test_the_starter_refuses_absent_words() -> None:
    segmenter = StarterSegmenter()
    for name, words in {
        "chelsea": ("sky", "sea", "grass", "person", "boat"),
        "coffee": ("sky", "dog", "snow"),
    }.items():
        scene = segmenter.analyze(photo(name))
        assert [word for word in words if scene.find(word) is not None] == []


def test_things_are_found_in_two_languages() -> None:
    scene = StarterSegmenter().analyze(photo("chelsea"))
    english, chinese = scene.find("cat"), scene.find("猫")
    assert english is not None
    assert chinese is not None
    assert np.array_equal(english, chinese)
    # Relative to its best place, only the cheeks were part of the cat.
    assert (english > 0.5).mean() > 0.4
    assert scene.find("xyzzy") is None


def test_class_ranges_take_precedence_over_names() -> None:
    """A heron was not a bird: "hummingbird" and "blackbird" end in the word, "heron" does not."""
    detector = ThingDetector()
    names = detector._classes.synonyms
    assert 131 in detector.classes("bird")
    assert detector.classes("birds") == detector.classes("bird")
    assert detector.classes("鸟") == detector.classes("bird")
    assert "little blue heron" in names[131]
    assert [names[n][0] for n in detector.classes("cup")] == ["measuring cup", "cup"]
    assert detector.classes("xyzzy") == []


def test_nothing_outside_the_soft_mask_of_a_photo_changes() -> None:
    """End to end on a photo: the sky turns red, and pixels outside the soft mask stay exactly."""
    image = photo("rocket")
    edit = RuleBasedEditor().edit(EditRequest(image, "把天空变成红色"))
    before, after = np.asarray(image, int), np.asarray(edit.image, int)
    probability = StarterSegmenter().analyze(image).find("sky")
    assert probability is not None
    mask = upscale_mask(probability, image)
    assert edit.region is not None
    assert np.array_equal(edit.region, mask >= 128)
    assert (after - before)[edit.region][:, 0].mean() > 20
    assert (mask == 0).mean() > 0.04
    assert np.array_equal(after[mask == 0], before[mask == 0])


def test_a_word_includes_its_parts() -> None:
    """ "person" includes clothes and skin: it is present where either outweighs all other words."""
    log_probs = np.full((1, 2, len(WORDS)), -10.0)
    for place, word in enumerate(("shirt", "sky")):
        log_probs[0, place, WORDS.index(word)] = 0
    assert (word_probability(log_probs, "person") > 0.5).tolist() == [[True, False]]
    assert (word_probability(log_probs, "sky") > 0.5).tolist() == [[False, True]]
    assert PARTS["person"] == ("person", "shirt", "skin")


def test_colors_decide_where_the_map_is_uncertain() -> None:
    lab = np.zeros((20, 20, 3), np.float32)
    lab[:, :10] = (0.8, -0.05, -0.2)
    lab[:, 10:] = (0.4, 0.1, 0.1)
    probability = np.tile(np.linspace(0.95, 0.05, 20), (20, 1))
    probability[:, 8:12] = 0.5
    log_probs = np.log(np.stack([probability, 1 - probability], axis=-1))
    sharper = np.exp(sharpen_by_color(log_probs, lab))[..., 0]
    assert sharper[:, 9].min() > 0.6
    assert sharper[:, 10].max() < 0.4


def test_the_finer_grid_matches_pytorch() -> None:
    """The ONNX graph returns the last block of stride 16 as PyTorch computes it."""
    network = load_network()
    outputs: list[torch.Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    pixels = resize_to_square(photo("rocket"))[None]
    with torch.no_grad():
        network(torch.from_numpy(pixels.copy()))
    (middle,) = ImageBackbone().session.run(["middle"], {"pixels": pixels})
    assert middle.shape == (1, MIDDLE, GRID, GRID)
    last = [output for output in outputs if output.shape[1:] == middle.shape[1:]][-1]
    assert np.abs(middle - last.numpy()).max() < 1e-2 * float(last.abs().max())
