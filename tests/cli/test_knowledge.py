"""build, add, remove, export, import, verify and more on the command line; bad sources."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from ravlm.retrieval.calibration import FILE
from tests.helpers.commands import assert_fails


def test_add_remove_info_verify(ravlm: Any, kb: Path, pictures: Path) -> None:
    row = json.dumps({"id": "green", "image": str(pictures / "green.png")})
    code, out, _ = ravlm("add", kb, "-", "--json", stdin=row + "\n")
    assert (code, json.loads(out)["added"], json.loads(out)["entries"]) == (0, 1, 5)
    code, out, _ = ravlm("remove", kb, "-", "red", "--json", stdin="green\nnowhere\n")
    result = {"removed": 2, "entries": 3, "missing": ["nowhere"]}
    assert (code, json.loads(out)) == (0, result)
    code, out, err = ravlm("remove", kb, "nowhere", "else where")
    assert (code, out) == (0, "Removed 0 of 2; 3 entries are left.\n")
    assert err == 'There is no entry "nowhere".\nThere is no entry "else where".\n'
    code, out, _ = ravlm("info", kb, "--json")
    assert (code, json.loads(out)["entries"]) == (0, 3)
    assert ravlm("info", kb)[1].count("\n") == len(json.loads(out))
    code, out, _ = ravlm("verify", kb, "--json")
    assert (code, json.loads(out)["sound"]) == (0, True)


def test_optimize_compact_reencode(ravlm: Any, kb: Path) -> None:
    code, out, _ = ravlm("optimize", kb, "--json")
    assert (code, json.loads(out)) == (0, {"entries": 4})
    ravlm("remove", kb, "note")
    code, out, _ = ravlm("compact", kb, "--json")
    assert code == 0
    assert json.loads(out)["bytes"] <= json.loads(out)["bytes_before"]
    code, out, _ = ravlm("reencode", kb, "--encoder", "other", "--json")
    assert (code, json.loads(out)["encoder"], json.loads(out)["entries"]) == (0, "other", 3)
    assert [
        json.loads(line)["id"]
        for line in ravlm("search", kb, "--text", "red", "-k", 1, "--json")[1].splitlines()
    ]


def test_export_and_import_into_a_new_base(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    code, out, _ = ravlm("export", kb, tmp_path / "out", "--json")
    assert (code, json.loads(out)["entries"]) == (0, 4)
    assert_fails(ravlm("export", kb, tmp_path / "out"), "out")
    new = tmp_path / "new"
    assert_fails(ravlm("import", new, tmp_path / "nowhere"), "nowhere")
    assert not new.exists()
    code, out, _ = ravlm("import", new, tmp_path / "out", "--json")
    assert (code, json.loads(out)["entries"]) == (0, 4)
    assert "red square" in ravlm("search", new, "--text", "red", "-k", 1, "--modality", "text")[1]


def test_build_again_adds_what_is_missing(ravlm: Any, kb: Path, source: Path) -> None:
    with source.open("a") as file:
        file.write('{"id": "more", "text": "one more"}\n')
    code, out, err = ravlm("build", kb, source, "--json")
    assert (code, json.loads(out)["added"], json.loads(out)["entries"]) == (0, 1, 5)
    # `ravlm build kb photos/ --ocr always` left stored photos unread and did not say so.
    assert "to read it again: ravlm add" in err


def test_commands_that_add_images_leave_a_calibrated_base(
    ravlm: Any, kb: Path, source: Path, tmp_path: Path
) -> None:
    """It was fitted with the first question about an image, seconds after the question."""
    calibration = Path("derived") / FILE
    assert (kb / calibration).is_file()
    built = (kb / calibration).read_bytes()
    assert ravlm("ask", kb, "What is it?", "--image", source.parent / "red.png")[0] == 0
    assert (kb / calibration).read_bytes() == built
    (kb / calibration).unlink()
    assert ravlm("reencode", kb, "--encoder", "other")[0] == 0
    assert (kb / calibration).is_file()
    assert ravlm("export", kb, tmp_path / "export")[0] == 0
    assert ravlm("import", tmp_path / "copy", tmp_path / "export", "--encoder", "other")[0] == 0
    assert (tmp_path / "copy" / calibration).is_file()
    (kb / calibration).unlink()
    assert ravlm("add", kb, "-", stdin='{"id": "more", "text": "one more"}\n')[0] == 0
    assert (kb / calibration).is_file()


def huge_png() -> bytes:
    """Return a PNG whose header claims 20,000 x 20,000 pixels."""
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(1000)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


BAD_IMAGES = {
    "words.jpg": (b"these are words", "not an image"),
    "nothing.png": (b"", "empty"),
    "huge.png": (huge_png(), "too many pixels"),
    "cut.png": (b"\x89PNG\r\n\x1a\n\x00\x00", "cut.png"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_alone_creates_no_base(ravlm: Any, tmp_path: Path, name: str) -> None:
    content, reason = BAD_IMAGES[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    result = ravlm("build", tmp_path / "kb", tmp_path / "in")
    assert_fails(result)
    assert name in result[2]
    assert reason in result[2]
    assert not (tmp_path / "kb").exists()


def test_an_empty_folder_stays_when_nothing_could_be_stored(ravlm: Any, tmp_path: Path) -> None:
    (tmp_path / "kb").mkdir()
    assert_fails(
        ravlm("build", tmp_path / "kb", "-", stdin='{"image": "nowhere.png"}\n'),
        "no base was created",
    )
    assert list((tmp_path / "kb").iterdir()) == []


def test_bad_images_next_to_good_ones_are_quarantined(
    ravlm: Any, pictures: Path, tmp_path: Path
) -> None:
    for name, (content, _) in BAD_IMAGES.items():
        (pictures / name).write_bytes(content)
    code, out, _ = ravlm("build", tmp_path / "kb", pictures, "--json")
    report = json.loads(out)
    assert (code, report["added"], len(report["quarantined"])) == (0, 4, 4)
    for name in BAD_IMAGES:
        assert any(
            name in item["location"] or name in item["reason"] for item in report["quarantined"]
        )
    assert "4 in quarantine" in ravlm("build", tmp_path / "kb", pictures)[1]


def test_bad_sources(ravlm: Any, tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    (tmp_path / "empty").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "columns.csv").write_text("colour,size\nred,3\n")
    (tmp_path / "lines.jsonl").write_text("this is not JSON\n")
    for name in ("nowhere.jsonl", "empty", "papers", "columns.csv", "lines.jsonl"):
        result = ravlm("build", kb, tmp_path / name)
        assert_fails(result)
        assert name in result[2]
        assert not kb.exists()
    result = ravlm("build", kb, "-", stdin="")
    assert_fails(result)
    assert not kb.exists()


def test_a_failed_source_leaves_the_base_as_it_was(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_fails(ravlm("add", kb, tmp_path / "empty"), "empty")
    assert_fails(ravlm("build", kb, tmp_path / "nowhere"), "nowhere")
    assert json.loads(ravlm("info", kb, "--json")[1])["entries"] == 4


def test_duplicate_ids_go_to_quarantine(ravlm: Any, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "the first"},
        {"id": "a", "text": "the second"},
        {"id": "b", "text": "another"},
    ]
    source = "".join(json.dumps(row) + "\n" for row in rows)
    code, out, _ = ravlm("build", tmp_path / "kb", "-", "--json", stdin=source)
    report = json.loads(out)
    assert (code, report["added"], len(report["quarantined"])) == (0, 2, 1)
    assert "a" in report["quarantined"][0]["reason"]
    assert "the first" in ravlm("search", tmp_path / "kb", "--text", "the first", "-k", 1)[1]


def test_encoders_that_do_not_fit(ravlm: Any, kb: Path, source: Path, tmp_path: Path) -> None:
    assert_fails(ravlm("build", kb, source, "--encoder", "other"), "other", "reencode")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text('{"architecture": "generator of another kind"}')
    assert_fails(ravlm("build", tmp_path / "new", source, "--encoder", strange), "strange")
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(
    ravlm: Any, source: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "mine"
    precious.mkdir()
    (precious / "diary.txt").write_text("dear diary")
    assert_fails(ravlm("build", precious, source), "mine")
    assert_fails(ravlm("demo", "--out", precious), "mine")
    assert [path.name for path in precious.iterdir()] == ["diary.txt"]
