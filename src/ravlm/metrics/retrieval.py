"""How well a search ranks: plain functions of vectors or ranks. Know no encoder and no index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CrossModalRecall:
    """Recall at k in percent, both ways: a text finds its image; an image finds any of its texts."""

    text_to_image: dict[int, float]
    image_to_text: dict[int, float]

    def __str__(self) -> str:
        ways = (("text to image", self.text_to_image), ("image to text", self.image_to_text))
        return "; ".join(
            f"{name} R@{'/'.join(map(str, values))} {' / '.join(f'{v:.1f}' for v in values.values())}"
            for name, values in ways
        )


def cross_modal_recall(
    images: np.ndarray, texts: np.ndarray, owner: np.ndarray, ks: tuple[int, ...] = (1, 5, 10)
) -> CrossModalRecall:
    """Recall of exact search among unit vectors `images` (n, dim) and `texts` (m, dim).

    `owner` (m,) is the image that each text describes; every image needs a text. Ties count against the right one.
    """
    scores = texts @ images.T
    right = scores[np.arange(len(texts)), owner]
    text_ranks = (scores >= right[:, None]).sum(axis=1) - 1
    image_ranks = np.full(len(images), len(texts))
    by_image = scores.T
    for image in range(len(images)):
        best = by_image[image, owner == image].max()
        image_ranks[image] = (by_image[image, owner != image] >= best).sum()
    return CrossModalRecall(
        {k: float(100 * np.mean(text_ranks < k)) for k in ks}, {k: float(100 * np.mean(image_ranks < k)) for k in ks}
    )
