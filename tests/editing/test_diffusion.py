"""Diffusers pipelines as editors: seed, progress, preview, references, unsuitable pipelines."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.editing.auto import load_editor
from ravlm.editing.base import EditRequest
from ravlm.editing.diffusion import DiffusionEditor, DiffusionOptions
from ravlm.errors import InvalidInput, Mismatch, MissingExtra
from ravlm.records import Entry, Hit, Part
from tests.helpers.diffusion_pipelines import instruct_pix2pix, text_to_image
from tests.helpers.editors import landscape

SMALL = DiffusionOptions(steps=2, max_side=64)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("diffusers", reason='the diffusion editor needs: pip install "ravlm[edit]"')
    return instruct_pix2pix(tmp_path_factory.mktemp("pipeline"))


def test_seed_words_and_guidance_reach_the_pipeline(pipeline: str) -> None:
    editor = DiffusionEditor(pipeline, SMALL)

    def output(words: str, seed: int, by: DiffusionEditor = editor) -> bytes:
        return by.edit(EditRequest(landscape(), words, seed=seed)).image.tobytes()

    assert output("make it red", 1) == output("make it red", 1)
    assert output("make it red", 1) != output("make it red", 2)
    assert output("make it red", 1) != output("a cat", 1)
    stricter = DiffusionEditor(
        pipeline,
        DiffusionOptions(steps=2, max_side=64, guidance_scale=30.0, image_guidance_scale=5.0),
    )
    assert output("make it red", 1) != output("make it red", 1, stricter)


def test_progress_and_preview(pipeline: str) -> None:
    """Both are called after each step; the preview has the size that the pipeline works on."""
    steps: list[tuple[int, int]] = []
    shown: list[Image.Image] = []
    editor = DiffusionEditor(pipeline, SMALL, lambda *step: steps.append(step), shown.append)
    editor.edit(EditRequest(landscape(), "make it red"))
    assert len(steps) == len(shown) >= 2
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}
    assert all(picture.size == (64, 32) for picture in shown)
    assert shown[0].tobytes() != shown[-1].tobytes()


class QwenImageEditPlusPipeline:
    """Pastes the second image into the first."""

    def __call__(self, image: Any, prompt: str, strength: float = 1.0) -> Any:
        self.images = image
        self.strength = strength
        output = image[0].copy()
        output.paste(image[1].resize((8, 8)))
        return SimpleNamespace(images=[output])


def test_retrieved_images_are_passed_to_pipelines_that_take_several() -> None:
    editor = DiffusionEditor(
        "owner/model", DiffusionOptions(max_references=1, max_side=96, strength=0.4)
    )
    fake = editor.__dict__["pipeline"] = QwenImageEditPlusPipeline()
    hits = [
        Hit(Entry("words"), 0.9, Part("text")),
        Hit(Entry("red", Image.new("RGB", (40, 40), "red")), 0.8, Part("image")),  # type: ignore[arg-type]
        Hit(Entry("blue", Image.new("RGB", (40, 40), "blue")), 0.7, Part("image")),  # type: ignore[arg-type]
    ]
    assert editor.retrieval_query("make it red") == "make it red"
    edit = editor.edit(EditRequest(landscape(), "make it red", tuple(hits)))
    assert [hit.entry.id for hit in edit.evidence] == ["red"]
    assert [image.size for image in fake.images] == [(96, 64), (32, 32)]
    assert fake.strength == 0.4
    assert edit.image.size == (96, 72)
    assert edit.region is not None
    assert edit.region[:8, :8].all()
    assert not edit.region[20:].any()


def test_an_unchanged_image_is_not_an_edit() -> None:
    class Idle:
        def __call__(self, image: Any, prompt: str) -> Any:
            return SimpleNamespace(images=[image])

    editor = DiffusionEditor("owner/model")
    editor.__dict__["pipeline"] = Idle()
    image = landscape(96, 64).convert("L")
    edit = editor.edit(EditRequest(image, "make it red"))
    assert edit.region is None
    assert edit.image.mode == "L"
    assert edit.image.tobytes() == image.tobytes()
    assert "changed nothing" in edit.understood


def test_unsuitable_pipelines(pipeline: str, tmp_path: Path) -> None:
    request = EditRequest(landscape(), "make it red")
    with pytest.raises(Mismatch, match=r"no model_index\.json"):
        load_editor(tmp_path).edit(request)
    with pytest.raises(
        Mismatch, match="StableDiffusionPipeline, which does not edit an image by a prompt"
    ):
        load_editor(text_to_image(pipeline, tmp_path / "drawing")).edit(request)
    with pytest.raises(InvalidInput, match="takes no strength"):
        DiffusionEditor(pipeline, DiffusionOptions(strength=0.5)).edit(request)
    with pytest.raises(InvalidInput, match=r'takes no segmenter \(got "owner/clipseg"\)'):
        load_editor(pipeline, "owner/clipseg")
    broken = Path(instruct_pix2pix(tmp_path / "broken"))
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(Mismatch, match="can't be loaded"):
        load_editor(broken).edit(request)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"max_side": 8}, "max_side is 8"),
        ({"strength": 0.0}, "strength is 0.0"),
        ({"max_references": -1}, "max_references is -1"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        DiffusionOptions(**options)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r"ravlm\[edit\]"):
        load_editor(tmp_path).edit(EditRequest(landscape(), "make it red"))


def test_a_region_is_where_a_channel_changed() -> None:
    class Dim:
        """Darkens the left half by 30, the right half by 5."""

        def __call__(self, image: Any, prompt: str) -> Any:
            pixels = np.asarray(image, int)
            half = pixels.shape[1] // 2
            pixels = np.concatenate([pixels[:, :half] - 30, pixels[:, half:] - 5], axis=1)
            return SimpleNamespace(
                images=[Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))]
            )

    editor = DiffusionEditor("owner/model")
    editor.__dict__["pipeline"] = Dim()
    region = editor.edit(EditRequest(landscape(128, 64), "darker")).region
    assert region is not None
    assert region[:, :64].mean() > 0.95
    assert region[:, 68:].mean() < 0.05
