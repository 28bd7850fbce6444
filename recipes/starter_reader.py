"""Train the span reader of the extractive generator.

    python -m recipes.starter_reader --data ../shared/data --work runs/a --out a --epochs 2
    python -m recipes.starter_reader --data ../shared/data --work runs/b --out b --epochs 1 \
        --seed 1 --learning-rate 5e-5 --start a
    python -m recipes.starter_reader --data ../shared/data --work runs/c --out c --epochs 1 \
        --seed 2 --learning-rate 5e-5 --start b --cards 3000 --human-share 0.15
    python -m recipes.starter_reader --average a b c --out src/ravlm/starter/reader

The mean of the weights of all stages (Wortsman et al. 2022, arXiv:2203.05482) reads prose as well
as the first stage and cards nearly as well as the last.

`--data`: a folder with squad and cmrc2018 (passages.jsonl and qa.jsonl each). Their train splits,
passages without the answer and made-up cards in English and Chinese are read together; half of the
dev split is evaluated. Resumable: run it again after an interruption. Two epochs take about an hour
on two cores.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.checkpoint import read_checkpoint_config, read_weights, save_checkpoint
from ravlm.encoders.starter import minilm
from ravlm.generation.extractive.span_reader import SpanReader, Window
from ravlm.training.trainer import LoopConfig, TrainingStep, fit_once
from recipes.fact_cards import CardMaker
from recipes.reading_data import (
    ExampleEncoder,
    ReadingExample,
    TrainingWindow,
    card_examples,
    distractors,
    known_characters,
    read_examples,
)

PADDED_LENGTHS = (64, 96, 128, 160, 192, 256, 320, 384)
"""Few shapes: oneDNN compiles a bf16 kernel for each."""
_NOT_ALLOWED = -1e4
_SORTED_BATCHES = 16


@dataclass(frozen=True)
class Recipe:
    """Data and schedule."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    cards: int = 2000
    """Questions about cards, tables and made-up prose per epoch and language."""
    chinese_copies: int = 2
    """How often each Chinese question is read per epoch."""
    human_share: float = 1.0
    """Share of the human questions that is read per epoch."""
    distractor_share: float = 0.25
    seed: int = 0


class SpanReaderNetwork(nn.Module):
    """all-MiniLM-L6-v2 with character embeddings and a head of two scores."""

    def __init__(self, num_characters: int) -> None:
        super().__init__()
        from transformers import AutoModel

        folder = str(minilm.model_folder())
        self.bert = AutoModel.from_pretrained(
            folder, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False
        )
        for module in self.bert.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # slow on a CPU
        self.bert.embeddings.word_embeddings.weight.requires_grad_(False)
        self.bert.pooler = None
        self.characters = nn.Embedding(num_characters + 1, minilm.WIDTH, padding_idx=0)
        nn.init.zeros_(self.characters.weight)
        self.head = nn.Linear(minilm.WIDTH, 2)
        nn.init.normal_(self.head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return scores (n, tokens, 2), float32. `inputs` as of `SpanReader.inputs`."""
        embedded = self.bert.embeddings.word_embeddings(inputs["ids"])
        embedded = embedded + self.characters(inputs["characters"]).sum(2)
        with runtime.autocast(torch.device("cpu")):
            states = self.bert(
                inputs_embeds=embedded,
                attention_mask=inputs["mask"].long(),
                token_type_ids=inputs["segments"],
            ).last_hidden_state
        return self.head(states.float())

    def trained_arrays(self) -> dict[str, np.ndarray]:
        """Return the weights that `SpanReader` loads, in half precision."""
        names = {"bert.": "", "characters.": "characters.", "head.": "head."}
        arrays = {}
        for name, tensor in self.state_dict().items():
            prefix = next(p for p in names if name.startswith(p))
            short = names[prefix] + name.removeprefix(prefix)
            if short != "embeddings.word_embeddings.weight" and "position_ids" not in short:
                arrays[short] = tensor.numpy().astype(np.float16)
        return arrays

    def load_trained(self, folder: Path) -> None:
        """Load the weights of a saved reader."""
        state = self.state_dict()
        for name, array in read_weights(folder).items():
            key = name if name in state else f"bert.{name}"
            state[key].copy_(torch.from_numpy(array.astype(np.float32)))


class ReadingStep(TrainingStep):
    """Maximizes the likelihood of any right start and any right end of each window."""

    model: SpanReaderNetwork

    def __init__(self, data: Path, recipe: Recipe) -> None:
        self.recipe = recipe
        self.english = read_examples(data / "squad", "train")
        self.chinese = read_examples(data / "cmrc2018", "train")
        texts = [t for e in self.chinese for t in (e.question, e.passage)]
        maker = CardMaker("zh", random.Random(0))
        texts += [maker.card().text for _ in range(3000)]
        self.characters = known_characters(texts)
        self.reader = _reader_with(self.characters)
        self.encoder = ExampleEncoder(self.reader.tokenizer)
        self.model = SpanReaderNetwork(len(self.characters))
        self.num_batches = len(self._batches(0))
        self._epoch = -1
        self._epoch_batches: list[list[TrainingWindow]] = []

    def loop(self) -> LoopConfig:
        """Return the schedule."""
        steps = self.recipe.epochs * self.num_batches
        return LoopConfig(
            steps,
            learning_rate=self.recipe.learning_rate,
            warmup_steps=steps // 12,
            weight_decay=0.01,
            seed=self.recipe.seed,
            save_every=150,
            log_every=25,
        )

    def learning_rate_factor(self, name: str) -> float:
        is_new = name.startswith(("head", "characters"))
        return self.recipe.head_learning_rate / self.recipe.learning_rate if is_new else 1.0

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        epoch, position = divmod(index, self.num_batches)
        if epoch != self._epoch:
            self._epoch, self._epoch_batches = epoch, self._batches(epoch)
        batch = self._epoch_batches[position % len(self._epoch_batches)]
        scores = self.scores([row.window for row in batch])
        return {"loss": reading_loss(scores, batch)}

    def scores(self, windows: Sequence[Window]) -> Tensor:
        """Return scores (n, padded tokens, 2); positions outside the passage but the first one
        are excluded."""
        arrays = self.reader.inputs(windows)
        tokens = arrays["ids"].shape[1]
        padded = next(length for length in PADDED_LENGTHS if length >= tokens)
        inputs = {name: _pad(torch.from_numpy(a), padded) for name, a in arrays.items()}
        allowed = torch.zeros(len(windows), padded, dtype=torch.bool)
        allowed[:, 0] = True
        for row, window in enumerate(windows):
            allowed[row, window.offset : window.offset + window.length] = True
        return self.model(inputs).masked_fill(~allowed[:, :, None], _NOT_ALLOWED)

    def _batches(self, epoch: int) -> list[list[TrainingWindow]]:
        """Return the batches of an epoch, each of windows of similar length."""
        rng = random.Random(self.recipe.seed * 1000 + epoch)
        recipe = self.recipe
        examples = self.english + self.chinese * recipe.chinese_copies
        examples += distractors(self.english, recipe.distractor_share, rng)
        examples += distractors(self.chinese, recipe.distractor_share, rng)
        examples = rng.sample(examples, round(recipe.human_share * len(examples)))
        for language in ("en", "zh"):
            examples += card_examples([CardMaker(language, rng)], recipe.cards)
        rows = [row for e in examples if (row := self.encoder.window(e, rng)) is not None]
        rng.shuffle(rows)
        pool_size = _SORTED_BATCHES * recipe.batch_size
        batches = []
        for first in range(0, len(rows) - pool_size + 1, pool_size):
            pool = rows[first : first + pool_size]
            pool.sort(key=lambda row: len(row.window.ids))
            for start in range(0, pool_size, recipe.batch_size):
                batches.append(pool[start : start + recipe.batch_size])
        rng.shuffle(batches)
        return batches


def reading_loss(scores: Tensor, batch: Sequence[TrainingWindow]) -> Tensor:
    """Return the mean negative log-likelihood of any right start and any right end.

    `scores` (n, tokens, 2). A window without a right span must point to its first token.
    """
    total = scores.new_zeros(())
    for column, positions in enumerate(([r.starts for r in batch], [r.ends for r in batch])):
        log_p = scores[:, :, column].log_softmax(1)
        for row, right in enumerate(positions):
            total = total - log_p[row, list(right) or [0]].logsumexp(0)
    return total / (2 * len(batch))


def _reader_with(characters: Sequence[str]) -> SpanReader:
    reader = SpanReader()
    reader.__dict__["_characters"] = {c: number for number, c in enumerate(characters, 1)}
    return reader


def _pad(tensor: Tensor, tokens: int) -> Tensor:
    """Pad the second dimension with zeros."""
    shape = (tensor.shape[0], tokens - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, tensor.new_zeros(shape)], 1)


def evaluation_examples(data: Path) -> dict[str, list[ReadingExample]]:
    """Return the half of the dev splits that choices are made on."""
    return {name: read_examples(data / name, "dev")[::2] for name in ("squad", "cmrc2018")}


def average(folders: Sequence[Path], out: Path) -> None:
    """Save the mean of the weights of readers that know the same characters."""
    config = read_checkpoint_config(folders[0])
    if any(read_checkpoint_config(folder) != config for folder in folders):
        raise SystemExit("The readers know different characters; train them from one another.")
    weights = [read_weights(folder) for folder in folders]
    means = {
        name: np.stack([w[name] for w in weights]).astype(np.float32).mean(0).astype(np.float16)
        for name in weights[0]
    }
    save_checkpoint(out, config, means)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--average", type=Path, nargs="+", help="folders of trained readers")
    parser.add_argument("--work", type=Path, default=Path("runs/reader"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the reader")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--start", type=Path, help="a folder of weights to train further")
    parser.add_argument("--human-share", type=float, default=Recipe.human_share)
    parser.add_argument("--cards", type=int, default=Recipe.cards)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.average:
        average(options.average, options.out)
        return
    torch.manual_seed(0)
    names = ("epochs", "learning_rate", "cards", "human_share", "seed")
    recipe = Recipe(**{name: getattr(options, name) for name in names})
    step = ReadingStep(options.data, recipe)
    if options.start:
        step.model.load_trained(options.start)
    print(f"{step.num_batches} batches per epoch", flush=True)
    fit_once(step, step.loop(), options.work, lambda line: print(line, flush=True))
    config = {"architecture": "span-reader", "characters": "".join(step.characters)}
    save_checkpoint(options.out, config, step.model.trained_arrays())
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
