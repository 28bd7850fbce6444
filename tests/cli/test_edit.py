"""`ravlm edit`: the file it writes, and that it writes none if nothing was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ravlm.data.images import load_image
from tests.helpers.commands import assert_fails
from tests.helpers.editors import ColorSegmenter, landscape, true_mask


@pytest.fixture(autouse=True)
def color_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local editor segments the drawn landscape."""
    monkeypatch.setattr("ravlm.editing.auto.load_segmenter", lambda name: ColorSegmenter())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "landscape.png"
    landscape().save(path)
    return path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_edited_image_is_written(ravlm: Any, kb: Path, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "red.png"
    code, output, err = ravlm("edit", kb, image, "make the sky red", "--out", out)
    assert (code, err) == (0, "")
    assert output == f"Understood: the sky red.\nwritten to {out}\n"
    pixels = load_image(out)
    assert np.asarray(pixels)[true_mask(landscape(), "sky")].mean(axis=0)[0] > 150
    code, output, _ = ravlm("edit", kb, image, "-", "--out", out, "--json", stdin="把天空变亮\n")
    record = json.loads(output)
    assert code == 0
    assert (record["out"], record["understood"], record["evidence"]) == (
        str(out),
        "理解为：天空变亮。",
        [],
    )
    assert 0.3 < record["changed"] < 0.5
    code, _, _ = ravlm("edit", kb, "-", "make it darker", "--out", out, stdin=image.read_bytes())
    assert code == 0
    assert np.asarray(load_image(out)).mean() < np.asarray(landscape()).mean() - 5


def test_the_example_is_printed(ravlm: Any, kb: Path, image: Path, tmp_path: Path) -> None:
    """Retrieved by the words of the instruction: the red picture, not the blue one."""
    arguments = (
        "edit",
        kb,
        image,
        "make the picture like a red evening",
        "--out",
        tmp_path / "like.png",
    )
    code, output, _ = ravlm(*arguments, "-k", 1, "--json")
    record = json.loads(output)
    assert code == 0
    assert [hit["id"] for hit in record["evidence"]] == ["red"]
    code, output, _ = ravlm(*arguments)
    assert code == 0
    assert "red" in output.splitlines()[2]


def test_a_refused_edit_is_exit_code_1_and_no_file(
    ravlm: Any, kb: Path, image: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "out.png", files(tmp_path)
    for instruction, word in {
        "make the sea blue": "don't see the water",
        "make the sky red and the sea blue": "don't see the water",
        "frobnicate the sky": "frobnicate",
        "make the sky brighter and darker": "contradict",
        "把大海变成红色": "没有找到“水面”",
        "make the sky like a sunset -k 0": "sunset",
    }.items():
        k = ("-k", 0) if "-k 0" in instruction else ()
        run = ravlm("edit", kb, image, instruction.removesuffix(" -k 0"), "--out", out, *k)
        assert_fails(run, word)
        assert run[1] == ""
    code, output, _ = ravlm("edit", kb, image, "make the sea blue", "--out", out, "--json")
    record = json.loads(output)
    assert (code, record["out"], record["changed"]) == (1, None, 0.0)
    assert files(tmp_path) == before


def test_bad_input(ravlm: Any, kb: Path, image: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out.png", files(tmp_path)
    instruction = "make it darker"
    assert_fails(ravlm("edit", kb, image, " ", "--out", out), "instruction is empty")
    assert_fails(ravlm("edit", kb, tmp_path / "gone.png", instruction, "--out", out), "gone.png")
    assert_fails(
        ravlm("edit", kb, image, instruction, "--out", tmp_path / "out.xyz"), "out.xyz", ".png"
    )
    assert_fails(
        ravlm("edit", kb, image, instruction, "--out", tmp_path / "no" / "out.png"),
        "can't be written",
    )
    assert_fails(
        ravlm("edit", kb, image, instruction, "--out", "/proc/out.png"), "can't be written"
    )
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert_fails(
        ravlm("edit", kb, image, instruction, "--out", folder), "which is a folder. Name a file"
    )
    folder.rmdir()
    assert_fails(
        ravlm("edit", kb, image, instruction, "--out", out, "--editor", "loca"),
        'Did you mean "local"',
    )
    assert_fails(ravlm("edit", kb, image, instruction, "--out", out, "-k", -1), "k is -1")
    assert_fails(
        ravlm("edit", kb, "-", instruction, "--out", out, stdin=b"no picture"), "not an image"
    )
    assert_fails(ravlm("edit", kb, "-", "-", "--out", out), "stdin", code=2)
    assert_fails(ravlm("edit", kb, image, instruction), "--out", code=2)
    assert_fails(ravlm("edit", tmp_path / "nobase", image, instruction, "--out", out), "nobase")
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["cut.jpg", "cut.bmp", "cut.png", "cut.webp", "cut.tif"])
def test_a_cut_out_is_on_white_in_formats_without_transparency(
    ravlm: Any, kb: Path, image: Path, tmp_path: Path, name: str
) -> None:  # fmt: skip
    """A JPEG once showed all that was cut away: only the alpha channel had been dropped."""
    code, _, err = ravlm("edit", kb, image, "cut out the person", "--out", tmp_path / name)
    assert code == 0, err
    with Image.open(tmp_path / name) as result:
        assert result.has_transparency_data == (name not in ("cut.jpg", "cut.bmp"))
        assert min(load_image(result).getpixel((4, 4))) > 245  # type: ignore[type-var, arg-type]


def test_the_color_profile_stays(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    """Phones use a wider gamut than sRGB; without the profile their photos came out dull."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source_path, out = tmp_path / "phone.jpg", tmp_path / "out.jpg"
    for mode, expected in (("RGB", profile), ("CMYK", None)):
        embedded = profile if mode == "RGB" else profile[:16] + b"CMYK" + profile[20:]
        landscape().convert(mode).save(source_path, icc_profile=embedded)
        assert ravlm("edit", kb, source_path, "make it darker", "--out", out)[0] == 0
        with Image.open(out) as result:
            assert result.info.get("icc_profile") == expected


def test_a_refused_edit_in_place_keeps_the_file(ravlm: Any, kb: Path, image: Path) -> None:
    before = image.read_bytes()
    assert ravlm("edit", kb, image, "make the sea blue", "--out", image)[0] == 1
    assert image.read_bytes() == before
    assert ravlm("edit", kb, image, "make the sky red", "--out", image)[0] == 0
    assert image.read_bytes() != before
