"""`ravlm edit`: what it writes, and that it writes nothing where nothing was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ravlm.data.images import load_image
from tests.helpers.commands import assert_fails
from tests.helpers.editors import ByColour, landscape, truth


@pytest.fixture(autouse=True)
def own_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local editor sees what the drawn landscape shows."""
    monkeypatch.setattr("ravlm.editing.auto.load_segmenter", lambda name: ByColour())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "landscape.png"
    landscape().save(path)
    return path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_picture_is_changed_and_written(
    ravlm: Any, kb: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "red.png"
    code, said, err = ravlm("edit", kb, picture, "make the sky red", "--out", out)
    assert (code, err) == (0, "")
    assert said == f"Understood: the sky red.\nwritten to {out}\n"
    pixels = load_image(out)
    assert np.asarray(pixels)[truth(landscape(), "sky")].mean(axis=0)[0] > 150
    code, said, _ = ravlm("edit", kb, picture, "-", "--out", out, "--json", stdin="把天空变亮\n")
    record = json.loads(said)
    assert code == 0
    assert (record["out"], record["understood"], record["evidence"]) == (
        str(out),
        "理解为：天空变亮。",
        [],
    )
    assert 0.3 < record["changed"] < 0.5
    code, _, _ = ravlm("edit", kb, "-", "make it darker", "--out", out, stdin=picture.read_bytes())
    assert code == 0
    assert np.asarray(load_image(out)).mean() < np.asarray(landscape()).mean() - 5


def test_the_evidence_that_steered_is_printed(
    ravlm: Any, kb: Path, picture: Path, tmp_path: Path
) -> None:
    """Retrieved by the words of the wish: the red picture, not the blue one."""
    arguments = (
        "edit",
        kb,
        picture,
        "make the picture like a red evening",
        "--out",
        tmp_path / "like.png",
    )
    code, said, _ = ravlm(*arguments, "-k", 1, "--json")
    record = json.loads(said)
    assert code == 0
    assert [hit["id"] for hit in record["evidence"]] == ["red"]
    code, said, _ = ravlm(*arguments)
    assert code == 0
    assert "red" in said.splitlines()[2]


def test_what_is_not_done_is_exit_code_1_and_no_file(
    ravlm: Any, kb: Path, picture: Path, tmp_path: Path
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
        ran = ravlm("edit", kb, picture, instruction.removesuffix(" -k 0"), "--out", out, *k)
        assert_fails(ran, word)
        assert ran[1] == ""
    code, said, _ = ravlm("edit", kb, picture, "make the sea blue", "--out", out, "--json")
    record = json.loads(said)
    assert (code, record["out"], record["changed"]) == (1, None, 0.0)
    assert files(tmp_path) == before


def test_bad_input(ravlm: Any, kb: Path, picture: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out.png", files(tmp_path)
    wish = "make it darker"
    assert_fails(ravlm("edit", kb, picture, " ", "--out", out), "instruction is empty")
    assert_fails(ravlm("edit", kb, tmp_path / "gone.png", wish, "--out", out), "gone.png")
    assert_fails(ravlm("edit", kb, picture, wish, "--out", tmp_path / "out.xyz"), "out.xyz", ".png")
    assert_fails(
        ravlm("edit", kb, picture, wish, "--out", tmp_path / "no" / "out.png"), "can't be written"
    )
    assert_fails(ravlm("edit", kb, picture, wish, "--out", "/proc/out.png"), "can't be written")
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert_fails(ravlm("edit", kb, picture, wish, "--out", folder), "a folder; name a file")
    folder.rmdir()
    assert_fails(
        ravlm("edit", kb, picture, wish, "--out", out, "--editor", "loca"), 'Did you mean "local"'
    )
    assert_fails(ravlm("edit", kb, picture, wish, "--out", out, "-k", -1), "k is -1")
    assert_fails(ravlm("edit", kb, "-", wish, "--out", out, stdin=b"no picture"), "not an image")
    assert_fails(ravlm("edit", kb, "-", "-", "--out", out), "stdin", code=2)
    assert_fails(ravlm("edit", kb, picture, wish), "--out", code=2)
    assert_fails(ravlm("edit", tmp_path / "nobase", picture, wish, "--out", out), "nobase")
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["cut.jpg", "cut.bmp", "cut.png", "cut.webp", "cut.tif"])
def test_a_cut_out_stands_over_white_where_nothing_is_transparent(
    ravlm: Any, kb: Path, picture: Path, tmp_path: Path, name: str
) -> None:  # fmt: skip
    """As JPEG the cut-out person came with all that was cut away: only the transparency had been
    dropped."""
    code, _, err = ravlm("edit", kb, picture, "cut out the person", "--out", tmp_path / name)
    assert code == 0, err
    with Image.open(tmp_path / name) as written:
        assert written.has_transparency_data == (name not in ("cut.jpg", "cut.bmp"))
        assert min(load_image(written).getpixel((4, 4))) > 245  # type: ignore[type-var, arg-type]


def test_the_colour_profile_stays(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    """Photos of phones are in wider colours than sRGB; without their profile they came out dull."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source_path, out = tmp_path / "phone.jpg", tmp_path / "out.jpg"
    for mode, kept in (("RGB", profile), ("CMYK", None)):
        told = profile if mode == "RGB" else profile[:16] + b"CMYK" + profile[20:]
        landscape().convert(mode).save(source_path, icc_profile=told)
        assert ravlm("edit", kb, source_path, "make it darker", "--out", out)[0] == 0
        with Image.open(out) as written:
            assert written.info.get("icc_profile") == kept


def test_an_edit_in_place_loses_nothing_when_it_is_refused(
    ravlm: Any, kb: Path, picture: Path
) -> None:
    before = picture.read_bytes()
    assert ravlm("edit", kb, picture, "make the sea blue", "--out", picture)[0] == 1
    assert picture.read_bytes() == before
    assert ravlm("edit", kb, picture, "make the sky red", "--out", picture)[0] == 0
    assert picture.read_bytes() != before
