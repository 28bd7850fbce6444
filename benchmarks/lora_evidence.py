"""A chat model learns to read retrieved evidence: right and cited on facts that it never saw.

Tiny random checkpoints of the LLaVA, Qwen2-VL and SmolVLM classes (two layers of width 32, made by
tests/helpers) get a LoRA adapter by `ravlm.train_generator` on facts about invented things, and are
asked about other things before and after; also with the right entry taken out. A value says nothing
about its thing, so that the answer has to be copied from the entry, and an entry about another
property of the thing has to be declined.

    python -m benchmarks.lora_evidence --families qwen2_vl --epochs 6
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ravlm import Entry, KnowledgeBase, LoraTrainingConfig, TrainingExample, train_generator
from ravlm.generation.base import ABSENT
from ravlm.generation.chat.generator import ChatGenerator
from tests.helpers import chat_checkpoints
from tests.helpers.fakes import FakeEncoder

PROPERTIES = ("height", "color", "weight", "origin", "owner", "age")
VALUES = (
    "red", "blue", "green", "white", "black", "amber", "pink", "gray", "brown", "gold", "oak",
    "elm", "ash", "fir", "yew", "bay", "fig", "pear", "plum", "rose", "iron", "tin", "zinc", "lead",
)  # fmt: skip
SYLLABLES = ("Ba", "do", "ki", "lu", "me", "no", "ri", "sa", "te", "vu")
NUM_THINGS = 240
NUM_HELD_OUT = 60
CONFIG = LoraTrainingConfig(
    epochs=20,
    batch_size=32,
    learning_rate=1e-2,
    r=32,
    lora_alpha=64,
    num_evidence=1,
    num_candidates=len(PROPERTIES),
    abstention_rate=0.3,
    evidence_dropout=0.0,
    max_compared=NUM_HELD_OUT,
    bf16=False,
)


class NameEncoder(FakeEncoder):
    """Texts about one thing have one vector: its name, the only capitalized long word, decides."""

    def _text(self, text: str) -> np.ndarray:
        words = [word.strip("?:,") for word in text.split()]
        name = next((w for w in words if len(w) > 4 and w[0].isupper()), "")
        return np.random.default_rng(list(name.encode())).normal(size=64).astype(np.float32)


def things(seed: int = 0) -> dict[str, dict[str, str]]:
    """Return invented names, each with a value of every property."""
    rng = random.Random(seed)
    facts: dict[str, dict[str, str]] = {}
    while len(facts) < NUM_THINGS:
        name = "".join(rng.choice(SYLLABLES).lower() for _ in range(3)).capitalize()
        facts[name] = {key: rng.choice(VALUES) for key in PROPERTIES}
    return facts


def entries_and_questions(
    facts: dict[str, dict[str, str]],
) -> tuple[list[Entry], list[list[TrainingExample]]]:
    """Return an entry for each fact, and the questions about each thing."""
    entries: list[Entry] = []
    questions: list[list[TrainingExample]] = []
    for name, values in facts.items():
        questions.append([])
        for key, value in values.items():
            entry = Entry(f"{name} {key}", text=f"Name: {name}\n{key} {value}")
            entries.append(entry)
            questions[-1].append(
                TrainingExample(f"For {name}, what {key}", (f" {value}",), evidence=(entry.id,))
            )
    return entries, questions


def tiny_model(family: str, folder: Path, facts: dict[str, dict[str, str]]) -> ChatGenerator:
    """Return a random model of the family, whose output layer is its input embedding: a copied
    token is likely, as in pretrained models that tie the two."""
    words = " ".join(f" {word}" for word in (*VALUES, *PROPERTIES))
    questions = " ".join(f"For {name}, what Name: {name}" for name in facts)
    prompt = f"[1] [2] system\nAnswer. user\n<evidence>\n</evidence>\n {ABSENT[False]}\n"
    path = chat_checkpoints.CHAT_MODELS[family](folder, [words] * 40 + [questions] + [prompt] * 100)
    generator = ChatGenerator.load(path, dtype=torch.float32)
    generator.model.needs_instructions = False  # short prompts: a fifth of the time
    network: Any = generator.model.network
    with torch.no_grad():
        embedding = network.get_input_embeddings().weight
        network.get_output_embeddings().weight.copy_(4 * embedding)
    return generator


def measure(family: str, config: LoraTrainingConfig, num_things: int) -> dict[str, Any]:
    """Train an adapter and return the held-out figures before and after."""
    facts = dict(list(things().items())[:num_things])
    entries, questions = entries_and_questions(facts)
    num_test = len(questions) // 4
    train = [example for group in questions[num_test:] for example in group]
    test = [example for group in questions[:num_test] for example in group]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        generator = tiny_model(family, folder / family, facts)
        with KnowledgeBase.build(folder / "kb", entries, encoder=NameEncoder()) as kb:
            start = time.process_time()
            train_generator(generator, train, kb, folder / "out", config, test, print)
            seconds = time.process_time() - start
        changes = json.loads((folder / "out" / "comparison.json").read_text(encoding="utf-8"))
    figures = {change["metric"]: (change["before"], change["after"]) for change in changes}
    return {"family": family, "processor seconds": round(seconds), "held-out": figures}


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=["llava", "qwen2_vl", "smolvlm"])
    parser.add_argument("--epochs", type=int, default=CONFIG.epochs)
    parser.add_argument("--things", type=int, default=NUM_THINGS)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = replace(CONFIG, epochs=options.epochs)
    rows = [measure(family, config, options.things) for family in options.families]
    for row in rows:
        print(json.dumps(row))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
