"""Metrics: plain functions of texts, ids, vectors or pixels that return a `Score`.

None of them needs Java, a download or a model. docs/metrics.md lists the reference implementation
of each, and the differences to it.
"""

from ravlm.metrics.bleu import bleu, bleu_from_counts
from ravlm.metrics.calibration import calibration_from_counts, expected_calibration_error
from ravlm.metrics.caption import caption_scores
from ravlm.metrics.cider import CiderFrequencies, cider, cider_frequencies
from ravlm.metrics.citation import citation_precision, citation_recall, ratio_from_counts
from ravlm.metrics.clip_score import clip_score, directional_similarity, ref_clip_score
from ravlm.metrics.diversity import copy_rate, distinct_n
from ravlm.metrics.image import image_l1, image_l2, mask_iou, psnr, ssim
from ravlm.metrics.meteor import meteor, meteor_from_counts
from ravlm.metrics.ptb_tokenizer import PtbTokenizer
from ravlm.metrics.retrieval import (
    cross_modal_recall,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at,
    precision_at,
    recall_at,
)
from ravlm.metrics.rouge import rouge, rouge_l
from ravlm.metrics.vqa import containment, exact_match, normalize_answer, token_f1, vqa_accuracy

__all__ = [
    "CiderFrequencies",
    "PtbTokenizer",
    "bleu",
    "bleu_from_counts",
    "calibration_from_counts",
    "caption_scores",
    "cider",
    "cider_frequencies",
    "citation_precision",
    "citation_recall",
    "clip_score",
    "containment",
    "copy_rate",
    "cross_modal_recall",
    "directional_similarity",
    "distinct_n",
    "exact_match",
    "expected_calibration_error",
    "image_l1",
    "image_l2",
    "mask_iou",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "meteor",
    "meteor_from_counts",
    "ndcg_at",
    "normalize_answer",
    "precision_at",
    "psnr",
    "ratio_from_counts",
    "recall_at",
    "ref_clip_score",
    "rouge",
    "rouge_l",
    "ssim",
    "token_f1",
    "vqa_accuracy",
]
