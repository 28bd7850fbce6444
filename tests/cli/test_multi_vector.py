"""A base of a late-interaction checkpoint on the command line, from build to verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.commands import assert_fails
from tests.helpers.multi_vector_checkpoints import colpali


def test_build_search_reopen_add_remove(ravlm: Any, pictures: Path, tmp_path: Path) -> None:
    folder, kb, source = colpali(tmp_path / "colpali"), tmp_path / "kb", tmp_path / "rows.jsonl"
    rows = [{"id": name, "image": str(pictures / f"{name}.png")} for name in ("red", "blue")]
    source.write_text("\n".join(map(json.dumps, rows)))
    pooled = ("--encoder", folder, "--token-pooling", 2)
    assert_fails(ravlm("build", kb, source, "--token-pooling", 2), "gives one vector per image")
    code, out, _ = ravlm("build", kb, source, *pooled, "--json")
    assert (code, json.loads(out)["added"]) == (0, 2)
    for _ in range(2):
        code, out, _ = ravlm("search", kb, "--image", pictures / "red.png", "-k", 1, "--json")
        assert code == 0
        assert (json.loads(out)["id"], round(json.loads(out)["score"], 2)) == ("red", 1.0)
        assert ravlm("optimize", kb)[0] == 0
    code, out, _ = ravlm("search", kb, "--text", "a red wall", "-k", 5, "--json")
    assert len(out.splitlines()) == 2
    green = json.dumps({"id": "green", "image": str(pictures / "green.png")})
    assert ravlm("add", kb, "-", stdin=green)[0] == 0
    assert ravlm("remove", kb, "red")[0] == 0
    out = ravlm("search", kb, "--image", pictures / "green.png", "-k", 5, "--json")[1]
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["green", "blue"]
    code, out, _ = ravlm("verify", kb, "--json")
    assert (code, json.loads(out)["checked"]["token vectors"]) == (0, 2 * 18)
    assert_fails(ravlm("build", kb, source, "--encoder", "starter"), "was built with the encoder")
