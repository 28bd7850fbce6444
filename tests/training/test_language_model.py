"""Next-token pre-training reaches the known perplexity of an artificial language."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from ravlm.cli import main
from ravlm.errors import InvalidInput
from ravlm.fusion.decoder import EvidenceDecoder
from ravlm.training.language_model import (
    LanguageModelTrainingConfig,
    read_texts,
    train_language_model,
)
from ravlm.training.trainer import last_figures

SMALL = LanguageModelTrainingConfig(
    epochs=12,
    batch_size=64,
    width=32,
    layers=1,
    heads=2,
    max_length=16,
    min_frequency=1,
    learning_rate=1e-2,
)


def texts(n: int) -> list[str]:
    """One of four nouns, one of two verbs, an end: the best perplexity per token is
    (4 x 2 x 1) ** (1 / 3) = 2."""
    draw = random.Random(0)
    return [
        f"{draw.choice(['dog', 'cat', 'cow', 'hen'])} {draw.choice(['runs', 'sleeps'])}"
        for _ in range(n)
    ]


def test_it_learns_the_language(tmp_path: Path) -> None:
    train_language_model(texts(640), tmp_path / "lm", SMALL)
    assert 1.9 < last_figures(tmp_path / "lm")["held-out perplexity"] < 2.2
    again = EvidenceDecoder.from_pretrained(tmp_path / "lm").eval()
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "lm"))
    prompt = tokenizer(tokenizer.bos_token + " dog", return_tensors="pt", add_special_tokens=False)
    tokens = tokenizer.convert_ids_to_tokens(again.generate(**prompt, max_new_tokens=3)[0])
    assert tokens[1] == "dog"
    assert tokens[2] in ("runs", "sleeps")
    assert tokens[3] == tokenizer.eos_token
    with pytest.raises(InvalidInput, match="already contains a trained language model"):
        train_language_model(texts(640), tmp_path / "lm", SMALL)


def test_any_causal_model_of_transformers(tmp_path: Path) -> None:
    train_language_model(texts(200), tmp_path / "own", SMALL)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "own"))
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=16)
    )
    train_language_model(texts(640), tmp_path / "gpt2", SMALL, model, tokenizer)
    assert last_figures(tmp_path / "gpt2")["held-out perplexity"] < 2.4


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of lines becomes a folder with model, tokenizer, log and curve; it is not trained
    again."""
    lines, out = tmp_path / "lines.txt", tmp_path / "lm"
    lines.write_text("\n".join(texts(200)), encoding="utf-8")
    shape = [
        "--width",
        "32",
        "--layers",
        "1",
        "--min-frequency",
        "1",
        "--batch-size",
        "64",
        "--accumulate",
        "2",
        "--epochs",
        "2",
    ]
    command = ["train", "language", "--texts", str(lines), "--out", str(out), *shape]
    command += ["--tensorboard", str(tmp_path / "events")]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["held-out perplexity"] > 1
    assert "it/s" not in captured.err
    assert "step 1 of 4: learning_rate" in captured.err
    assert list((tmp_path / "events").iterdir())
    assert "- training: 190 texts from lines.txt" in (out / "README.md").read_text()
    assert {"config.json", "curve.png", "log.jsonl", "model.safetensors"} <= {
        path.name for path in out.iterdir()
    }
    assert main(command) == 1
    assert "already contains a trained language model" in capsys.readouterr().err


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There are 0 texts to train on"):
        train_language_model(["", " "], tmp_path / "none", SMALL)
    with pytest.raises(InvalidInput, match="its own tokenizer"):
        train_language_model(texts(20), tmp_path / "model", SMALL, model=object())


def test_fewer_texts_than_a_batch(tmp_path: Path) -> None:
    """A batch of 256 failed for anyone with fewer texts."""
    reports: list[str] = []
    config = replace(SMALL, accumulate=32, epochs=2)
    train_language_model(texts(20), tmp_path / "few", config, report=reports.append)
    assert reports[0] == "The batch size is 19 instead of 64: there are 19 texts."
    assert reports[1].startswith("step 1 of 2: ")


def test_a_checkpoint_that_could_not_be_saved_is_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written model was taken for a trained one, and the training was lost."""
    with monkeypatch.context() as broken:
        broken.setattr(EvidenceDecoder, "save_pretrained", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_language_model(texts(100), tmp_path, SMALL)
    assert not (tmp_path / "config.json").exists()
    reports: list[str] = []
    train_language_model(texts(100), tmp_path, SMALL, report=reports.append)
    assert reports[0] == "resuming at step 12 of 12"
    assert (tmp_path / "config.json").is_file()


def test_texts_of_a_file_and_of_entries(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one line\n\n  two lines \n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"texts": ["a", "b"]}\n{"text": "c"}\n', encoding="utf-8")
    assert list(read_texts(tmp_path / "lines.txt")) == ["one line", "two lines"]
    assert list(read_texts(tmp_path / "rows.jsonl")) == ["a", "b", "c"]
