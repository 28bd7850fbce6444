"""Our models in Transformers' own Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from ravlm.fusion.decoder import EvidenceDecoder
from tests.helpers.fusion_models import IMAGE_WIDTH, decoder_config, small_model

ROWS, TOKENS = 8, 6


def decoder() -> tuple[PreTrainedModel, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    model = EvidenceDecoder(decoder_config("own", "cross_attention"))  # type: ignore[arg-type]
    ids = torch.randint(3, 60, (ROWS, TOKENS))
    return model, [{"input_ids": row, "labels": row} for row in ids]


def captioner() -> tuple[PreTrainedModel, list[dict[str, Tensor]]]:
    model = small_model("own", "cross_attention")
    labels = torch.randint(3, 60, (ROWS, TOKENS))
    images = torch.randn(ROWS, 4, IMAGE_WIDTH)
    return model, [
        {"image_states": image, "labels": row} for image, row in zip(images, labels, strict=True)
    ]


@pytest.mark.parametrize("make", [decoder, captioner])
def test_accumulation_does_not_multiply_the_gradient(make: Any, tmp_path: Path) -> None:
    """The Trainer takes a model whose `forward` has **kwargs for one that divides its loss by
    `num_items_in_batch`, and did not divide it: four parts of a batch had four times its gradient.
    """
    changes = []
    for batch_size, parts in ((ROWS, 1), (ROWS // 4, 4)):
        model, rows = make()
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=parts,
            max_steps=1,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=0,
            lr_scheduler_type="constant",
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            use_cpu=True,
        )
        Trainer(model, arguments, train_dataset=rows).train()
        changes.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - before)
    assert changes[0].norm() > 0.01
    assert (changes[0] - changes[1]).norm() < 1e-4 * changes[0].norm()
