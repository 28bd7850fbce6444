"""Segmenters behind one interface: the starter's, those of Transformers; what they find, and what
they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ravlm.editing import segmenters
from ravlm.editing.auto import load_editor, load_segmenter
from ravlm.editing.base import EditRequest
from ravlm.editing.rule_based.editor import LocalEditor
from ravlm.editing.rule_based.mask_refinement import enlarged, resized
from ravlm.editing.rule_based.stuff import GRID, PARTS, WORDS, squashed
from ravlm.editing.rule_based.things import ThingFinder
from ravlm.editing.segmentation import Scene, Segmenter, StarterSegmenter, by_colour, margin
from ravlm.encoders.starter.backbones import ImageBackbone
from ravlm.encoders.starter.efficientnet import MIDDLE, load_network, weights_file
from ravlm.errors import Mismatch, NotFound
from tests.helpers import encoder_checkpoints
from tests.helpers.editors import ByColour, landscape, truth
from tests.helpers.segmenters import clipseg, owlvit


def photo(name: str) -> Image.Image:
    """One of the photos that come with scikit-image."""
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def fake(folder: Path) -> Segmenter:
    return ByColour()


def starter(folder: Path) -> Segmenter:
    return StarterSegmenter()


def drawing(folder: Path) -> Segmenter:
    return load_segmenter(clipseg(folder))


def framing(folder: Path) -> Segmenter:
    return load_segmenter(owlvit(folder))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that nobody trained are sure of nothing: whatever they say counts as found."""
    monkeypatch.setattr(segmenters, "LEAST", 0.0)
    monkeypatch.setattr(segmenters, "LEAST_FRAMED", 0.0)


@pytest.mark.parametrize("make", [fake, starter, drawing, framing])
@pytest.mark.usefixtures("lenient")
def test_every_segmenter_keeps_the_contract(
    make: Callable[[Path], Segmenter], tmp_path: Path
) -> None:
    """Whatever the segmenter: a map of shares or None, words that it can find, each photo a scene
    of its own, looked at twice the same."""
    segmenter = make(tmp_path / "checkpoint")
    upright = photo("astronaut").resize((96, 72))
    for image in (landscape(), upright, Image.new("RGB", (1, 1))):
        scene = segmenter.look(image)
        assert isinstance(scene, Scene)
        seen = scene.seen()
        assert set(seen) <= set(WORDS[:-1])
        for word in ("sky", "person", *seen[:1]):
            share = scene.find(word)
            assert share is not None or word not in seen
            if share is not None:
                assert share.ndim == 2
                assert 0 <= share.min() <= share.max() <= 1
                again = segmenter.look(image).find(word)
                assert again is not None
                assert np.array_equal(share, again)
    one, two = (
        segmenter.look(image).find("sky") for image in (landscape(), landscape().rotate(180))
    )
    assert one is None or two is None or not np.array_equal(one, two)


@pytest.mark.usefixtures("lenient")
def test_each_word_has_a_map_of_its_own(tmp_path: Path) -> None:
    """Words reach the model: what it says of two of them differs."""
    scene = drawing(tmp_path / "checkpoint").look(photo("astronaut"))
    sky, dog = scene.find("sky"), scene.find("dog")
    assert sky is not None
    assert dog is not None
    assert not np.array_equal(sky, dog)


class Frames:
    """A model that frames the person of `landscape` when it is asked for the sea."""

    model_max_length = 16

    def __init__(self, kind: str, box: tuple[float, ...]) -> None:
        self.config, self.box = SimpleNamespace(model_type=kind), box

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
    ("kind", "box"),
    [("owlvit", (0.42, 0.5, 0.25, 0.6)), ("owlv2", (0.42, 0.375, 0.25, 0.45))],
    ids=["owlvit", "owlv2"],
)
def test_a_frame_is_drawn_to_what_is_in_it(kind: str, box: tuple[float, ...]) -> None:
    """OWL-ViT only frames a thing; what has the frame's colours and not those around it is the
    thing. OWLv2 pads a picture to a square below, and its frames are parts of that square."""
    image = landscape(800, 600)
    model = Frames(kind, box)
    scene = segmenters.HubSegmenter(model, (model, model), segmenters._framed).look(image)
    assert scene.find("sky") is None
    share = scene.find("sea")
    assert share is not None
    found, person = resized(share, image.size) > 0.5, truth(image, "person")
    assert (found & person).sum() / (found | person).sum() > 0.9


def test_what_a_model_is_not_sure_of_is_not_there(tmp_path: Path) -> None:
    strict = segmenters.HubSegmenter(None, None, lambda model, processor, image, word: None)
    scene = strict.look(landscape())
    assert scene.find("sky") is None
    assert scene.seen() == ()
    edit = LocalEditor(strict).edit(EditRequest(landscape(), "make the sky red"))
    assert edit.region is None
    assert "don't see the sky" in edit.understood


def test_checkpoints_that_are_no_segmenters(tmp_path: Path) -> None:
    with pytest.raises(
        Mismatch, match=r'kind "clip"; one that finds regions is: clipseg, owlvit, owlv2'
    ):
        load_segmenter(encoder_checkpoints.clip(tmp_path / "clip"))
    folder = Path(clipseg(tmp_path / "clipseg"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotFound):
        load_editor("local", folder)


# the starter's


def test_the_starter_finds_the_sky_of_a_photo() -> None:
    """The sky behind the rocket reaches down to the plain, and stands between the towers."""
    sky = StarterSegmenter().look(photo("rocket")).find("sky")
    assert sky is not None
    found = sky > 0.5
    height, width = found.shape
    assert found[: height // 2, : width // 4].mean() > 0.98
    assert found[-height // 12 :].mean() < 0.1


def test_the_starter_refuses_what_is_not_there() -> None:
    segmenter = StarterSegmenter()
    for name, words in {
        "chelsea": ("sky", "sea", "grass", "person", "boat"),
        "coffee": ("sky", "dog", "snow"),
    }.items():
        scene = segmenter.look(photo(name))
        assert [word for word in words if scene.find(word) is not None] == []


def test_things_of_the_classes_are_found_in_two_languages() -> None:
    scene = StarterSegmenter().look(photo("chelsea"))
    english, chinese = scene.find("cat"), scene.find("猫")
    assert english is not None
    assert chinese is not None
    assert np.array_equal(english, chinese)
    assert (
        english > 0.5
    ).mean() > 0.4  # measured against its best place, only the cat's cheeks were of the cat
    assert scene.find("xyzzy") is None


def test_kinds_go_before_names() -> None:
    """A heron was no bird: the names of a hummingbird and a blackbird end in the word, and a
    heron's does not."""
    finder = ThingFinder()
    named = ThingFinder()._names
    assert 131 in finder.classes("bird")
    assert finder.classes("birds") == finder.classes("bird")
    assert finder.classes("鸟") == finder.classes("bird")
    assert "little blue heron" in named[131]
    assert [named[n][0] for n in finder.classes("cup")] == ["measuring cup", "cup"]
    assert finder.classes("xyzzy") == []


def test_what_lies_outside_the_feathered_region_of_a_photo_stays_exactly() -> None:
    """The whole way on a photo: the sky turns red, and no pixel changes that the feathered mask
    does not hold."""
    image = photo("rocket")
    edit = LocalEditor().edit(EditRequest(image, "把天空变成红色"))
    before, after = np.asarray(image, int), np.asarray(edit.image, int)
    share = StarterSegmenter().look(image).find("sky")
    assert share is not None
    mask = enlarged(share, image)
    assert edit.region is not None
    assert np.array_equal(edit.region, mask >= 128)
    assert (after - before)[edit.region][:, 0].mean() > 20
    assert (mask == 0).mean() > 0.04
    assert np.array_equal(after[mask == 0], before[mask == 0])


def test_shares_of_words_and_of_the_words_that_hold_them() -> None:
    """ "person" holds what is worn and skin: it is there where either outweighs all else."""
    shares = np.full((1, 2, len(WORDS)), -10.0)
    for place, word in enumerate(("shirt", "sky")):
        shares[0, place, WORDS.index(word)] = 0
    assert (margin(shares, "person") > 0.5).tolist() == [[True, False]]
    assert (margin(shares, "sky") > 0.5).tolist() == [[False, True]]
    assert PARTS["person"] == ("person", "shirt", "skin")


def test_colours_decide_where_the_map_is_in_doubt() -> None:
    lab = np.zeros((20, 20, 3), np.float32)
    lab[:, :10] = (0.8, -0.05, -0.2)
    lab[:, 10:] = (0.4, 0.1, 0.1)
    share = np.tile(np.linspace(0.95, 0.05, 20), (20, 1))
    share[:, 8:12] = 0.5
    sharper = np.exp(by_colour(np.log(np.stack([share, 1 - share], axis=-1)), lab))[..., 0]
    assert sharper[:, 9].min() > 0.6
    assert sharper[:, 10].max() < 0.4


def test_the_finer_grid_is_the_networks_own() -> None:
    """What the ONNX graph gives of the last block of stride 16 is what PyTorch computes there."""
    network = load_network(weights_file())
    kept: list[torch.Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, inputs, output: kept.append(output))
    pixels = squashed(photo("rocket"))[None]
    with torch.no_grad():
        network(torch.from_numpy(pixels.copy()))
    (middle,) = ImageBackbone().session.run(["middle"], {"pixels": pixels})
    assert middle.shape == (1, MIDDLE, GRID, GRID)
    last = [found for found in kept if found.shape[1:] == middle.shape[1:]][-1]
    assert np.abs(middle - last.numpy()).max() < 1e-2 * float(last.abs().max())
