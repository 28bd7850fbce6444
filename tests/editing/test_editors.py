"""Conformance of every editor, and the rule-based editor on every kind of image."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.editing.auto import load_editor
from ravlm.editing.base import Editor, EditRequest
from ravlm.editing.diffusion import DiffusionEditor, DiffusionOptions
from ravlm.editing.rule_based.editor import RuleBasedEditor
from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.records import Edit, Entry, Hit, Part
from tests.helpers.diffusion_pipelines import instruct_pix2pix
from tests.helpers.editors import ColorSegmenter, interior, iou, landscape, true_mask


def rule_based(folder: Path) -> Editor:
    return RuleBasedEditor(ColorSegmenter())


def diffusion(folder: Path) -> Editor:
    pytest.importorskip("diffusers", reason='the diffusion editor needs: pip install "ravlm[edit]"')
    return DiffusionEditor(
        instruct_pix2pix(folder / "pipeline"), DiffusionOptions(steps=2, max_side=64)
    )


@pytest.mark.parametrize("make", [rule_based, diffusion])
def test_every_editor_keeps_the_contract(make: Callable[[Path], Editor], tmp_path: Path) -> None:
    """Size and transparency stay, and the region has the size of the image.

    The same seed gives the same result, two images get two edits, and no input is modified.
    """
    editor = make(tmp_path)
    clear = landscape(80, 60, seed=1)
    clear.putalpha(Image.linear_gradient("L").resize((80, 60)))
    for image in (landscape(), clear):
        before = image.copy()
        one, two = (editor.edit(EditRequest(image, "make the sky red", seed=3)) for _ in range(2))
        assert one.image.size == image.size
        assert one.image.mode == image.mode
        if image.mode == "RGBA":
            assert one.image.getchannel("A").tobytes() == image.getchannel("A").tobytes()
        assert one.region is not None
        assert one.region.dtype == bool
        assert one.region.shape == (image.height, image.width)
        assert one.region.any()
        assert one.image.tobytes() == two.image.tobytes() != image.tobytes()
        assert one.understood
        assert image.tobytes() == before.tobytes()
    assert isinstance(editor.retrieval_query("make the sky red"), str)


def edit(image: object, instruction: str, *evidence: Hit) -> Edit:
    return RuleBasedEditor(ColorSegmenter()).edit(EditRequest(image, instruction, evidence))  # type: ignore[arg-type]


def hit(name: str, image: object) -> Hit:
    return Hit(Entry(name, image), 0.5, Part("image"))  # type: ignore[arg-type]


def test_only_the_named_thing_changes() -> None:
    image = landscape(192, 144)
    result = edit(image, "make the sky red and the grass darker")
    before, after = np.asarray(image, int), np.asarray(result.image, int)
    person = true_mask(image, "person")
    inner = interior(person)
    assert np.array_equal(after[inner], before[inner])
    sky, grass = true_mask(image, "sky"), true_mask(image, "grass")
    assert (after[sky] - before[sky]).mean(axis=0)[0] > 30
    assert after[grass].mean() < before[grass].mean() - 10
    assert result.region is not None
    assert iou(result.region, sky | grass) > 0.9
    assert result.understood == "Understood: the sky red; the grass darker."


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        (
            "make the sky red and the sea blue",
            r"don't see the water .* What I see: the sky, the grass, the person",
        ),
        ("把大海变成红色", "没有找到“水面”.*图中有：天空、草地、人"),
        ("make the boat red", 'don\'t see "boat"'),
        ("make the sky like a sunset", "0 images were retrieved"),
        ("remove the person", '"remove"'),
        ("crop", "crop to"),
    ],
)
def test_an_impossible_edit_leaves_the_image_unchanged(instruction: str, words: str) -> None:
    """Nothing is done by half: the sky stays blue if the sea of the same instruction is missing."""
    for image in (landscape(), landscape().convert("L"), landscape().convert("P")):
        result = edit(image, instruction)
        assert image.mode != "RGB" or re.search(words, result.understood)
        assert result.region is None
        assert (result.image.mode, result.image.tobytes()) == (image.mode, image.tobytes())
        assert result.evidence == ()


def test_crop_cut_out_and_background() -> None:
    image = landscape(192, 144)
    person = true_mask(image, "person")
    cropped = edit(image, "crop to the person")
    assert abs(cropped.image.width - 32 - 2 * 8) <= 4
    assert abs(cropped.image.height - 72 - 2 * 8) <= 4
    cut = edit(image, "cut out the person")
    assert cut.image.mode == "RGBA"
    opaque = np.asarray(cut.image.getchannel("A")) >= 128
    assert iou(opaque, person) > 0.9
    assert np.array_equal(np.asarray(cut.image)[..., :3], np.asarray(image))
    blur = edit(image, "blur the background")
    assert blur.region is not None
    assert not blur.region[60:90, 70:90].any()
    without = Image.new("RGB", (64, 48), (110, 160, 230))
    assert "don't see a person or a dog" in edit(without, "blur the background").understood


def test_a_named_thing_is_not_background() -> None:
    """Blue grass turned gray again when the background was made black and white as well."""
    image = landscape(192, 144)
    both = edit(image, "make the grass blue and the background black and white")
    grass, sky = true_mask(image, "grass"), true_mask(image, "sky")
    inner = grass & np.roll(grass, 14, 0) & np.roll(grass, 14, 1) & np.roll(grass, -14, 1)
    alone = np.asarray(edit(image, "make the grass blue").image, int)
    assert np.array_equal(np.asarray(both.image, int)[inner], alone[inner])
    top = np.asarray(both.image, int)[:20][sky[:20]]
    assert (top.max(axis=-1) - top.min(axis=-1)).max() <= 2
    turned = edit(image, "make the background black and white and the grass blue")
    assert np.array_equal(np.asarray(turned.image, int)[inner], alone[inner])


def test_the_example_that_agrees_with_the_others_lends_its_colors(tmp_path: Path) -> None:
    """One image in four showed something else, came first, and turned a sunset green."""

    def evening(name: str, color: tuple[int, int, int]) -> Hit:
        Image.new("RGB", (64, 48), color).save(tmp_path / f"{name}.png")
        return hit(name, str(tmp_path / f"{name}.png"))

    class EverythingSegmenter(ColorSegmenter):
        def analyze(self, image: Image.Image):  # type: ignore[no-untyped-def]
            scene = super().analyze(image)
            scene.find = lambda word: (
                np.ones((4, 4), np.float32) if image.size == (64, 48) else true_mask(image, word)
            )  # type: ignore[method-assign]
            return scene

    hits = [
        evening("odd", (20, 120, 20)),
        evening("a", (240, 140, 60)),
        evening("b", (235, 130, 70)),
        evening("c", (245, 150, 60)),
    ]
    gone = hit("gone", str(tmp_path / "gone.png"))
    request = EditRequest(
        landscape(),
        "make the sky like a sunset",
        (*hits, gone, Hit(Entry("words"), 0.1, Part("text"))),
    )
    editor = RuleBasedEditor(EverythingSegmenter())
    assert editor.retrieval_query(request.instruction) == "a sunset sky"
    result = editor.edit(request)
    assert [h.entry.id for h in result.evidence] == ["a", "b", "c", "odd"]
    sky = np.asarray(result.image)[true_mask(landscape(), "sky")].mean(axis=0)
    assert np.abs(sky - (240, 140, 60)).max() < 15


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_image_mode_is_edited(mode: str) -> None:
    image = landscape()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256)
    else:
        image = image.convert(mode)
    result = edit(image, "make the picture darker")
    assert result.image.size == image.size
    assert result.image.mode == ("RGBA" if mode in ("LA", "PA", "RGBA") else "RGB")
    assert result.region is not None
    assert result.region.all()


def test_the_smallest_image() -> None:
    for instruction in ("make the picture red", "blur it", "sharpen", "make the sky red", "warmer"):
        result = edit(Image.new("RGB", (1, 1), (110, 160, 230)), instruction)
        assert result.image.size == (1, 1)
        assert result.region is not None


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(path)
    with pytest.raises(BrokenData, match="10,000 x 10,000"):
        edit(path, "make it darker")


def test_twelve_megapixels_keep_their_size_and_take_seconds() -> None:
    image = landscape(400, 300).resize((4000, 3000))
    began = time.process_time()
    result = edit(image, "make the sky red")
    assert result.image.size == (4000, 3000)
    assert time.process_time() - began < 30
    assert result.region is not None
    assert result.region[:700].all()
    assert not result.region[1700:].any()


def test_the_image_is_turned_upright(tmp_path: Path) -> None:
    """Phones store images sideways; the sky was searched for at the side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "lying.jpg"
    landscape(192, 144).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    result = edit(str(path), "make the sky red")
    assert result.image.size == (192, 144)
    assert not result.image.getexif().get(0x0112)
    assert result.region is not None
    assert result.region[:60, :50].all()
    assert not result.region[90:].any()


def test_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no image"):
        edit(tmp_path / "gone.png", "make it darker")


def test_editors_by_name(tmp_path: Path) -> None:
    assert load_editor("local").name == "local"
    editor = RuleBasedEditor(ColorSegmenter())
    assert load_editor(editor) is editor
    with pytest.raises(InvalidInput, match=r'Did you mean "local"'):
        load_editor("loca")
    with pytest.raises(InvalidInput, match=r'segmenter is "stater".*Did you mean "starter"'):
        load_editor("local", "stater")
