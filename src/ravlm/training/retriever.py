"""`train_retriever`: the query of a generator, taught by what the generator writes best from.

The generator stays as it is. How likely it finds each text of a picture with each near entry alone,
p(y|x,z), is computed once; then the matrix by which the picture's vector is moved is trained on the
marginal likelihood p(y|x) = sum over z of p(z|x) p(y|x,z), p(z|x) being the softmax of the moved
query's cosines. Its gradient draws the prior to the posterior p(z|x,y): the entries that explained
the text ("Retrieval-Augmented Generation", Lewis et al., 2020; with the generator frozen as in
"REPLUG", Shi et al., 2023). Knows how a generator is fed, not what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm import runtime
from ravlm.checkpoint import move_into
from ravlm.errors import InvalidInput
from ravlm.fusion.marginal import sequence_likelihood
from ravlm.generation.captioner.generator import SETTINGS, CaptionerGenerator
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Pair
from ravlm.retrieval.query_adapter import QueryAdapter
from ravlm.training.caption_dataset import (
    GeneratorData,
    find_evidence,
    first_texts,
    picture_vectors,
    read_evidence,
)
from ravlm.training.generator import caption_data
from ravlm.training.trainer import LoopConfig, PartedStep, batch_rows, fit, shares


@dataclass(frozen=True)
class RetrieverConfig:
    """How a query is trained."""

    epochs: int = 40
    batch: int = 256
    rate: float = 1e-3
    weight_decay: float = 0.05
    most: int = 12
    """Entries a picture that the generator is asked about."""
    captions: int = 2
    """Texts of a picture that count."""
    rank: int = 64
    """Of the matrix that is added to the identity."""
    sharpness: float = 15.0
    """What cosines are multiplied by in p(z|x)."""
    held_out: float = 0.1
    seed: int = 0

    def loop(self, pictures: int) -> LoopConfig:
        """The loop's configuration for so many pictures. Raises InvalidInput when they do not fill
        a batch, or the processes can't share one."""
        if pictures < self.batch:
            raise InvalidInput(
                f"A batch of {self.batch} is larger than the data ({pictures} pictures); take fewer."
            )
        shares(self.batch)
        steps = self.epochs * (pictures // self.batch)
        return LoopConfig(
            steps=steps, rate=self.rate, warmup=min(50, steps // 5 + 1), weight_decay=self.weight_decay,
            seed=self.seed, save_every=max(20, steps // 5), log_every=max(1, steps // 20),
        )  # fmt: skip


@dataclass(frozen=True)
class Explained:
    """Pictures, the entries near them, and how well each entry explains their texts."""

    queries: Tensor
    """(n, dim)"""
    entries: Tensor
    """(n, most, dim); zeros where there are fewer"""
    likelihood: Tensor
    """(n, captions, most): log p(y|x,z); -inf where there is no entry"""

    def rows(self, rows: Tensor | slice) -> Explained:
        return Explained(self.queries[rows], self.entries[rows], self.likelihood[rows])


class Query(nn.Module):
    """The identity and a matrix of low rank."""

    def __init__(self, dim: int, config: RetrieverConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(dim, config.rank) * dim**-0.5)
        self.up = nn.Parameter(torch.zeros(config.rank, dim))
        self.sharpness = config.sharpness

    def matrix(self) -> Tensor:
        return torch.eye(len(self.down)) + self.down @ self.up

    def forward(self, seen: Explained) -> Tensor:
        """log p(z|x) (n, most)."""
        moved = F.normalize(seen.queries @ self.matrix(), dim=-1)
        cosines = torch.einsum("nd,nmd->nm", moved, seen.entries)
        there = seen.likelihood[:, 0] > -torch.inf
        return (self.sharpness * cosines).masked_fill(~there, -torch.inf).log_softmax(-1)


def marginal_loss(prior: Tensor, likelihood: Tensor) -> Tensor:
    """The mean of -log p(y|x) over texts, from log p(z|x) (n, most) and log p(y|x,z) (n, captions,
    most)."""
    return -torch.logsumexp(prior[:, None] + likelihood, dim=-1).mean()


class RetrieverStep(PartedStep):
    """The marginal likelihood of texts, the generator's part being given."""

    def __init__(
        self, seen: Explained, config: RetrieverConfig, held_out: Explained | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.model = self.query = Query(seen.queries.shape[1], config)
        self.seen, self.config, self.held_out = seen, config, held_out
        self.batch = config.batch

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        chosen = batch_rows(len(self.seen.queries), self.batch, index, self.config.seed)[rows]
        some = self.seen.rows(chosen)
        return {"loss": marginal_loss(self.query(some), some.likelihood)}, len(chosen) / self.batch

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """-log p(y|x) of held-out texts, with the query as it is and as it was before."""
        unseen = self.held_out
        if unseen is None:
            return {}
        before = Query(unseen.queries.shape[1], self.config)
        return {
            name: float(marginal_loss(query(unseen), unseen.likelihood))
            for name, query in (("held-out loss", self.query), ("held-out loss, untrained", before))
        }


def train_retriever(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    kb: KnowledgeBase,
    folder: str | Path,
    config: RetrieverConfig = RetrieverConfig(),
    report: Callable[[str], None] = lambda line: None,
) -> CaptionerGenerator:
    """Give `generator` a query of its own for the base's encoder, learnt on `pairs`, and write it
    all to `folder`.

    A pair's own entry is never among those it learns from. `folder` keeps features and the log; a
    run that was killed goes on there. Raises InvalidInput for data that can't be trained on, or a
    folder that is trained already."""
    folder = Path(folder)
    if (folder / SETTINGS).exists():
        raise InvalidInput(
            f'"{folder}" is a trained generator already; choose another folder, or remove it.'
        )
    pairs = [pair for pair in pairs if pair.texts]
    held_out = int(config.held_out * len(pairs))
    loop = config.loop(len(pairs) - held_out)
    vectors = picture_vectors(kb, pairs)
    hits = find_evidence(kb, pairs, vectors, config.most)
    with runtime.in_turn():
        data = caption_data(generator, pairs, read_evidence(hits, config.most), folder / "seen")
    stored = kb.image_vectors(list({hit.entry.id for some in hits for hit in some}))
    entries = np.zeros((len(pairs), config.most, vectors.shape[1]), np.float32)
    for row, some in enumerate(hits):
        entries[row, : len(some)] = [stored[hit.entry.id] for hit in some]
    explained = Explained(
        torch.from_numpy(vectors),
        torch.from_numpy(entries),
        likelihoods(generator.model, data, config),
    )
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(config.seed))
    unseen = explained.rows(order[:held_out]) if held_out else None
    step = RetrieverStep(explained.rows(order[held_out:]), config, unseen)
    fit(step, loop, folder / "query", report)
    generator.adapter = QueryAdapter(step.query.matrix().detach().numpy(), kb.encoder.fingerprint)
    if runtime.rank()[0] == 0:
        generator.save(folder / "whole")
        move_into(folder / "whole", folder)
    return generator


@torch.no_grad()
def likelihoods(
    model: CaptionerModel, data: GeneratorData, config: RetrieverConfig, batch: int = 64
) -> Tensor:
    """log p(y|x,z) (pictures, captions, most) of each picture's first texts, given each of its
    entries alone; -inf where there is no entry."""
    model.eval()
    assert data.near is not None
    counts = min(config.captions, int(np.diff(data.offsets).min()))
    found = torch.full((len(data), counts, config.most), -torch.inf)
    for start in range(0, len(data), batch):
        pictures = np.arange(start, min(start + batch, len(data)))
        which = data.offsets[pictures][:, None] + np.arange(counts)
        labels = torch.from_numpy(data.words.padded(which.ravel(), -100))
        shown = {name: value.to(model.device) for name, value in data.pictures(pictures).items()}
        texts, _ = first_texts(data.near, pictures, config.most)
        for z in range(texts.shape[1]):
            given = {
                **shown,
                **data.evidence(texts[:, z : z + 1]),
                "evidence_scores": torch.zeros(len(pictures), 1),
            }
            if not model.config.fusion.startswith("marginal"):
                del given["evidence_scores"]
            with runtime.autocast(model.device):
                logits = model(**given, decoder_input_ids=model.shifted(labels)).logits
            one = sequence_likelihood(logits[:, None], labels, torch.zeros(len(labels), 1)).reshape(
                -1, counts
            )
            there = torch.from_numpy(texts[:, z] >= 0)[:, None]
            found[pictures, :, z] = torch.where(there, one, -torch.inf)
    return found
