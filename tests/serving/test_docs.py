"""The snippet in docs/serving.md runs; the paths, flags and metrics named there exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.fakes import COLORS
from tests.helpers.servers import Running

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_snippet_runs(server: Running, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    (tmp_path / "demo").mkdir()
    Image.new("RGB", (64, 48), COLORS["red"]).save(tmp_path / "demo" / "photo.jpg")
    code = snippet.replace("http://127.0.0.1:8000", server.address)
    assert code != snippet
    code = code.replace("What is the animal in the picture?", "What size is it?")
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[0] == "12 cm"
    assert lines[1].startswith("red square http")
    assert "'red'" in lines[-2]
    assert -1 <= float(lines[-1]) <= 1


def test_paths_and_metrics_exist(server: Running) -> None:
    paths = {
        path.replace("{id}", "ID") for path in server.client.get("/openapi.json").json()["paths"]
    }
    paths_in_docs = set(
        re.findall(r"(/v1/[a-z/]+(?:ID)?|/health|/ready|/metrics)", re.sub(r"http://\S+", "", DOCS))
    )
    assert paths_in_docs - {"/v1/"} <= paths
    metrics = server.client.get("/metrics").text
    assert set(re.findall(r"`(ravlm_\w+)`", DOCS)) <= set(re.findall(r"TYPE (\w+)", metrics))


@pytest.mark.parametrize("command", ["serve", "mcp"])
def test_flags_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from ravlm.cli import main

    with pytest.raises(SystemExit):
        main([command, "--help"])
    help_text = capsys.readouterr().out
    for line in re.findall(rf"ravlm {command} [^#\n]*", DOCS):
        assert all(flag in help_text for flag in re.findall(r"--[a-z-]+", line)), line
