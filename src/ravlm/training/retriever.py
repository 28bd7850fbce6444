"""`train_retriever`: train the query of a generator on the generator's own likelihoods.

The generator is frozen. The likelihood of each caption of an image given each near entry alone,
p(y|x,z), is computed once. Then the matrix that transforms the image's vector is trained on the
marginal likelihood p(y|x) = sum over z of p(z|x) p(y|x,z), where p(z|x) is the softmax of the
transformed query's cosines. Its gradient draws the prior to the posterior p(z|x,y): the entries
that explain the text ("Retrieval-Augmented Generation", Lewis et al. 2020; with a frozen generator
as in "REPLUG", Shi et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm import runtime
from ravlm.fusion.marginal import sequence_log_likelihood
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Hit, Modality, Pair
from ravlm.retrieval.query_adapter import QueryAdapter
from ravlm.training.batches import batch_rows
from ravlm.training.caption_dataset import CaptionDataset, caption_dataset
from ravlm.training.config import TrainingConfig
from ravlm.training.evidence import evidence_texts, find_evidence, image_vectors, top_evidence
from ravlm.training.generator import check_untrained, save_generator
from ravlm.training.model_card import ModelCard, describe_data
from ravlm.training.tracking import Tracker, silent, untracked
from ravlm.training.trainer import AccumulatingStep, fit, last_figures, untrained_figures

QUERY_STAGE = "query"
"""Folder of the log."""
_IGNORED = -100
"""Label of positions without a loss."""


@dataclass(frozen=True)
class RetrieverTrainingConfig(TrainingConfig):
    """How a query is trained."""

    epochs: int = 40
    batch_size: int = 256
    weight_decay: float = 0.05
    num_candidates: int = 12
    """Entries per image for which the generator computes likelihoods."""
    captions: int = 2
    """Captions of an image that are used."""
    rank: int = 64
    """Rank of the matrix that is added to the identity."""
    sharpness: float = 15.0
    """Factor of the cosines in p(z|x)."""
    held_out: float = 0.1
    """Fraction of the pairs that is not trained on and measures the loss in the log."""

    example_name: ClassVar[str] = "images"
    max_warmup_steps: ClassVar[int] = 50
    logs_per_run: ClassVar[int] = 20


@dataclass(frozen=True)
class RetrieverData:
    """Images, the entries near them, and how well each entry explains their captions."""

    queries: Tensor
    """(n, dim)"""
    entries: Tensor
    """(n, num_candidates, dim); zeros where there are fewer."""
    likelihood: Tensor
    """log p(y|x,z), (n, captions, num_candidates); -inf where there is no entry."""

    def select(self, rows: Tensor | slice) -> RetrieverData:
        """Return the data of some of the images."""
        return RetrieverData(self.queries[rows], self.entries[rows], self.likelihood[rows])


class LowRankQuery(nn.Module):
    """The identity plus a matrix of low rank."""

    def __init__(self, dim: int, config: RetrieverTrainingConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(dim, config.rank) * dim**-0.5)
        self.up = nn.Parameter(torch.zeros(config.rank, dim))
        self.sharpness = config.sharpness

    def matrix(self) -> Tensor:
        """Return the matrix (dim, dim) that transforms queries."""
        return torch.eye(len(self.down)) + self.down @ self.up

    def forward(self, data: RetrieverData) -> Tensor:
        """Return log p(z|x), (n, num_candidates)."""
        queries = F.normalize(data.queries @ self.matrix(), dim=-1)
        cosines = torch.einsum("nd,nmd->nm", queries, data.entries)
        mask = data.likelihood[:, 0] > -torch.inf
        return (self.sharpness * cosines).masked_fill(~mask, -torch.inf).log_softmax(-1)


def marginal_loss(prior: Tensor, likelihood: Tensor) -> Tensor:
    """Return the mean of -log p(y|x) over captions, from log p(z|x) (n, num_candidates) and
    log p(y|x,z) (n, captions, num_candidates)."""
    return -torch.logsumexp(prior[:, None] + likelihood, dim=-1).mean()


class RetrieverStep(AccumulatingStep):
    """Marginal likelihood of captions, with given likelihoods of the generator."""

    def __init__(
        self,
        data: RetrieverData,
        config: RetrieverTrainingConfig,
        held_out: RetrieverData | None = None,
    ) -> None:
        with runtime.preserved_rng():
            torch.manual_seed(config.seed)
            self.model = self.query = LowRankQuery(data.queries.shape[1], config)
        self.data = data
        self.config = config
        self.held_out = held_out
        self.batch_size = config.batch_size
        self.accumulate = config.accumulate

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        num_images = len(self.data.queries)
        images = batch_rows(num_images, self.batch_size, index, self.config.seed)[rows]
        batch = self.data.select(images)
        loss = marginal_loss(self.query(batch), batch.likelihood)
        return {"loss": loss}, len(images) / self.batch_size

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return -log p(y|x) of held-out captions, with the trained and with the untrained
        query."""
        data = self.held_out
        if data is None:
            return {}
        untrained = LowRankQuery(data.queries.shape[1], self.config)
        return {
            "held-out loss": float(marginal_loss(self.query(data), data.likelihood)),
            "held-out loss, untrained": float(marginal_loss(untrained(data), data.likelihood)),
        }


def train_retriever(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    kb: KnowledgeBase,
    folder: str | Path,
    config: RetrieverTrainingConfig = RetrieverTrainingConfig(),
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
) -> CaptionerGenerator:
    """Train a query adapter for `generator` and the base's encoder on `pairs`; save both to
    `folder`.

        ravlm.train_retriever(generator, pairs, ravlm.KnowledgeBase.open("kb/"), "runs/adapted")

    Entries are compared by the modality that the generator reads (`evidence_modality`), as in use.
    A pair's own entry is never used. `folder` keeps features and the log; a run that was killed
    resumes there. Raises InvalidInput for data that cannot be trained on, or if `folder` contains a
    trained generator.
    """
    folder = Path(folder)
    check_untrained(folder)
    source, pairs = pairs, [pair for pair in pairs if pair.texts]
    num_held_out = int(config.held_out * len(pairs))
    config = config.for_data(len(pairs) - num_held_out, report)
    loop = config.loop(len(pairs) - num_held_out)
    data = _retriever_data(generator, pairs, kb, folder, config)

    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(config.seed))
    held_out = data.select(order[:num_held_out]) if num_held_out else None
    step = RetrieverStep(data.select(order[num_held_out:]), config, held_out)
    before = untrained_figures(step)
    fit(step, loop, folder / QUERY_STAGE, report, tracker)
    generator.adapter = QueryAdapter(step.query.matrix().detach().numpy(), kb.encoder.fingerprint)
    card = ModelCard(
        title="Captioner with a trained query",
        usage=f"ravlm caption KB IMAGE --generator {folder.name}",
        data={
            "training": describe_data(len(pairs) - num_held_out, "images with captions", source),
            "held out": describe_data(num_held_out, "images with captions", source),
        },
        settings=config,
        before=before,
        after=last_figures(folder / QUERY_STAGE),
    )
    save_generator(generator, folder, card)
    return generator


def _retriever_data(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    kb: KnowledgeBase,
    folder: Path,
    config: RetrieverTrainingConfig,
) -> RetrieverData:
    vectors = image_vectors(kb, pairs)
    modality = generator.evidence_modality
    hits = find_evidence(kb, pairs, vectors, config.num_candidates, modality)
    evidence = evidence_texts(hits, config.num_candidates)
    with runtime.main_process_first():
        data = caption_dataset(generator, pairs, evidence, folder / "seen")
    return RetrieverData(
        queries=torch.from_numpy(vectors),
        entries=torch.from_numpy(_entry_vectors(kb, hits, config.num_candidates, modality)),
        likelihood=caption_likelihoods(generator.model, data, config),
    )


def _entry_vectors(
    kb: KnowledgeBase, hits: Sequence[Sequence[Hit]], num_candidates: int, modality: Modality
) -> np.ndarray:
    """Return the vectors of the parts that matched, (n, num_candidates, dim): the images, or the
    passages; zeros where there are fewer."""
    all_hits = [hit for row in hits for hit in row]
    if modality == "image":
        stored = kb.image_vectors(list({hit.entry.id for hit in all_hits}))
    else:
        passages = list(dict.fromkeys(hit.part.text for hit in all_hits))
        encoded = kb.encoder.encode_texts(passages) if passages else ()
        stored = dict(zip(passages, encoded, strict=True))
    vectors = np.zeros((len(hits), num_candidates, kb.encoder.dim), np.float32)
    for row, row_hits in enumerate(hits):
        keys = [hit.entry.id if modality == "image" else hit.part.text for hit in row_hits]
        vectors[row, : len(keys)] = [stored[key] for key in keys]
    return vectors


@torch.no_grad()
def caption_likelihoods(
    model: CaptionerModel,
    data: CaptionDataset,
    config: RetrieverTrainingConfig,
    batch_size: int = 64,
) -> Tensor:
    """Return log p(y|x,z), (num_images, captions, num_candidates): of the first captions of each
    image, given each of its entries alone; -inf where there is no entry."""
    model.eval()
    assert data.neighbors is not None
    num_captions = config.captions  # they repeat if an image has fewer
    likelihood = torch.full((len(data), num_captions, config.num_candidates), -torch.inf)
    for start in range(0, len(data), batch_size):
        images = np.arange(start, min(start + batch_size, len(data)))
        columns = np.arange(num_captions) % np.diff(data.offsets)[images][:, None]
        captions = data.offsets[images][:, None] + columns
        labels = torch.from_numpy(data.captions.pad(captions.ravel(), _IGNORED))
        inputs = {name: x.to(model.device) for name, x in data.image_inputs(images).items()}
        texts, _ = top_evidence(data.neighbors, images, config.num_candidates)  # (n, k)
        for z in range(texts.shape[1]):
            evidence = data.evidence_inputs(texts[:, z : z + 1])
            values = _log_likelihood(model, {**inputs, **evidence}, labels)
            mask = torch.from_numpy(texts[:, z] >= 0)[:, None]  # (n, 1)
            likelihood[images, :, z] = torch.where(
                mask, values.reshape(-1, num_captions), -torch.inf
            )
    return likelihood


def _log_likelihood(model: CaptionerModel, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Return log p(y|x,z) of each row of `labels`, (n,), with one entry of evidence."""
    if model.fusion.needs_evidence_scores:
        num_images = len(next(iter(inputs.values())))
        inputs = {**inputs, "evidence_scores": torch.zeros(num_images, 1)}
    with runtime.autocast(model.device):
        logits = model(**inputs, decoder_input_ids=model.shift_right(labels)).logits
    return sequence_log_likelihood(logits[:, None], labels, torch.zeros(len(labels), 1))
