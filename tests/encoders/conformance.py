"""What every encoder must do. A test class subclasses `Conformance` and provides the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder, Role
from ravlm.errors import BrokenData, InvalidInput, NotFound

TEXTS = (
    "a cat",
    "two children build a castle of sand at the beach, and a dog looks on",
    "一只毛茸茸的橘猫",
    "a cat",
    "",
    "x",
)
LONG = " ".join(
    f"Sentence number {i} tells of one more thing, and of its color." for i in range(90)
)
ROLES: tuple[Role, ...] = get_args(Role)
MIN_COSINE = 0.9995
"""Minimum cosine of the vectors of one item in two batches, also in bfloat16."""


def draw_image(width: int, height: int, seed: int) -> Image.Image:
    """Coarse colored noise, which does not turn gray when resized."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def sample_images() -> list[Image.Image]:
    """Wide, tall, small, very thin, square."""
    return [
        draw_image(*size, seed)
        for seed, size in enumerate([(200, 120), (90, 300), (20, 20), (1200, 30), (301, 301)])
    ]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1)


class Conformance:
    """Subclasses need a fixture `encoder`."""

    def test_vectors_are_unit_float32(self, encoder: Encoder) -> None:
        for vectors, n in (
            (encoder.encode_images(sample_images()), 5),
            (encoder.encode_texts(TEXTS), len(TEXTS)),
        ):
            assert vectors.dtype == np.float32
            assert vectors.shape == (n, encoder.dim)
            assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5

    def test_empty_input_gives_empty_output(self, encoder: Encoder) -> None:
        assert encoder.encode_images([]).shape == (0, encoder.dim)
        assert encoder.encode_texts([]).shape == (0, encoder.dim)
        assert encoder.encode_images([]).dtype == encoder.encode_texts(()).dtype == np.float32

    def test_two_items_get_two_vectors_and_one_item_one(self, encoder: Encoder) -> None:
        """A tower of zeros, or one that mixes the rows of a batch, would pass all other tests."""
        images = encoder.encode_images(sample_images())
        texts = encoder.encode_texts(TEXTS)
        assert (np.triu(images @ images.T, 1) < 0.9999).all()
        distinct = [0, 1, 2, 5]
        assert (np.triu(texts[distinct] @ texts[distinct].T, 1) < 0.9999).all()
        assert texts[0] @ texts[3] > MIN_COSINE

    def test_order_and_batches_change_nothing(self, encoder: Encoder) -> None:
        """Texts are batched by length: without undoing the permutation, vectors are swapped."""
        images, texts = sample_images(), list(TEXTS)
        together, split = encoder.encode_images(images), encoder.encode_images(images, batch_size=2)
        alone = np.concatenate([encoder.encode_images([image]) for image in images])
        turned = encoder.encode_images(images[::-1], batch_size=3)[::-1]
        for variant in (split, alone, turned):
            assert cosines(together, variant).min() > MIN_COSINE
        together, split = encoder.encode_texts(texts), encoder.encode_texts(texts, batch_size=2)
        alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
        turned = encoder.encode_texts(texts[::-1], batch_size=4)[::-1]
        for variant in (split, alone, turned):
            assert cosines(together, variant).min() > MIN_COSINE

    def test_an_image_is_a_path_bytes_or_an_image_object(
        self, encoder: Encoder, tmp_path: Path
    ) -> None:
        draw_image(150, 100, 7).save(tmp_path / "a.png")
        draw_image(100, 150, 8).convert("L").save(tmp_path / "b.png")
        paths = [tmp_path / "a.png", str(tmp_path / "b.png")]
        data = [Path(path).read_bytes() for path in paths]
        images_open = [Image.open(path) for path in paths]
        vectors = [encoder.encode_images(sources) for sources in (paths, data, images_open)]
        assert cosines(vectors[0], vectors[1]).min() > MIN_COSINE
        assert cosines(vectors[0], vectors[2]).min() > MIN_COSINE

    def test_prepare_gives_the_same_vector(self, encoder: Encoder) -> None:
        images = sample_images()
        prepared = [encoder.prepare(image) for image in images]
        assert (
            cosines(encoder.encode_images(images), encoder.encode_images(prepared)).min()
            > MIN_COSINE
        )
        for once in prepared:
            twice = encoder.prepare(once)
            assert twice.size == once.size
            assert twice.tobytes() == once.tobytes()

    def test_a_broken_image_is_named(self, encoder: Encoder, tmp_path: Path) -> None:
        bad = tmp_path / "bad.jpg"
        bad.write_text("not an image")
        with pytest.raises(BrokenData, match=r"bad\.jpg"):
            encoder.encode_images([draw_image(30, 30, 0), bad, draw_image(30, 30, 1)])
        with pytest.raises(NotFound, match=r"gone\.jpg"):
            encoder.encode_images([tmp_path / "gone.jpg"])

    def test_passages_fit_and_keep_all_text(self, encoder: Encoder) -> None:
        for text in (LONG, LONG.replace(".", ","), "长" * 900, "今天天气很好。" * 150):
            passages = encoder.passages(text)
            assert (
                len(passages) > 1 or "长" in text or "天" in text
            )  # a run of unknown characters may be one token
            assert "".join("".join(passages).split()) == "".join(text.split())
            for passage in (passages[0], passages[-1]):
                assert encoder.passages(passage) == [passage]
        assert encoder.passages("a cat") == ["a cat"]
        assert encoder.passages("") == [""]

    def test_an_unknown_role_is_invalid_input(self, encoder: Encoder) -> None:
        role: Any = "question"
        with pytest.raises(InvalidInput, match='role is "question"; allowed: query, document'):
            encoder.encode_texts(["a cat"], role=role)
        with pytest.raises(InvalidInput, match='role is "question"; allowed: query, document'):
            encoder.encode_images(sample_images()[:1], role=role)

    def test_only_an_asymmetric_encoder_has_roles(self, encoder: Encoder) -> None:
        query, document = (encoder.encode_texts(TEXTS[:2], role=role) for role in ROLES)
        assert (cosines(query, document).min() > MIN_COSINE) is not encoder.is_asymmetric

    def test_half_a_surrogate_pair_is_invalid_input(self, encoder: Encoder) -> None:
        """Text that was not UTF-8 was a TypeError of the tokenizer."""
        with pytest.raises(InvalidInput, match="character 6 is half of a surrogate pair"):
            encoder.encode_texts(["a red boat", "a caf\udce9"])

    def test_long_texts_are_truncated(self, encoder: Encoder) -> None:
        """A tower raises IndexError for one token more than it has positions."""
        first = encoder.passages(LONG)[0]
        long_vector, first_vector, other_vector = encoder.encode_texts([LONG, first, "a cat"])
        assert long_vector @ first_vector > long_vector @ other_vector

    def test_save_and_load_keep_vectors_and_fingerprint(
        self, encoder: Encoder, tmp_path: Path
    ) -> None:
        encoder.save(tmp_path / "mine")
        again = DualEncoder.load(tmp_path / "mine")
        assert type(again) is type(encoder)
        assert again.fingerprint == encoder.fingerprint
        assert (again.dim, again.languages, again.name) == (
            encoder.dim,
            encoder.languages,
            str(tmp_path / "mine"),
        )
        assert cosines(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS)).min() > MIN_COSINE
        assert (
            cosines(
                again.encode_images(sample_images()), encoder.encode_images(sample_images())
            ).min()
            > MIN_COSINE
        )
        again.save(tmp_path / "mine")  # onto the folder it was loaded from
        assert DualEncoder.load(tmp_path / "mine").fingerprint == encoder.fingerprint
