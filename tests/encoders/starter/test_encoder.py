"""The starter encoder as users see it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Role
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.errors import BrokenData, Mismatch, NotFound
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def starter() -> StarterEncoder:
    encoder = DualEncoder.load("starter")
    assert isinstance(encoder, StarterEncoder)
    return encoder


def photo(name: str) -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data" / name


def test_vectors_are_unit_float32_in_input_order(starter: StarterEncoder) -> None:
    files = [photo("chelsea.png"), photo("coffee.png"), photo("rocket.jpg")]
    together = starter.encode_images(files, batch_size=2)
    assert together.dtype == np.float32
    assert together.shape == (3, starter.dim)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([starter.encode_images([f]) for f in files])
    assert np.abs(together - alone).max() < 1e-4
    texts = ["a cat", "a longer text about a cup of coffee on a table", "火箭"]
    assert (
        np.abs(
            starter.encode_texts(texts) - np.concatenate([starter.encode_texts([t]) for t in texts])
        ).max()
        < 1e-5
    )


def test_the_published_fingerprint(starter: StarterEncoder) -> None:
    """Knowledge bases store it: a change would make all of them refuse the encoder."""
    path = REPOSITORY / "benchmarks" / "results" / "encoder-starter.json"
    assert starter.fingerprint == json.loads(path.read_text(encoding="utf-8"))["fingerprint"]


def test_empty_input_gives_empty_output(starter: StarterEncoder) -> None:
    assert starter.encode_images([]).shape == (0, starter.dim)
    assert starter.encode_texts([]).shape == (0, starter.dim)


def test_features_that_are_not_numbers_are_refused(starter: StarterEncoder) -> None:
    """A damaged graph in the cache gave them."""
    width = starter._weights["words.projection"].shape[0]
    features = np.random.default_rng(3).standard_normal((4, width)).astype(np.float32)
    stages = [features] * len(starter._stages("text"))
    assert starter.text_vectors(features, *stages).shape == (4, starter.dim)
    features[2, 5] = np.inf
    with pytest.raises(BrokenData, match='"starter" returned NaN or infinite values for 1 of 4'):
        starter.text_vectors(features, *stages)


FORMER_FINGERPRINT = "6cf28260361cc0acc2340dac680b964460f5d2bbb05bed863c5fbbb62c6766e5"
"""Of the starter before it read sixteen languages."""


def test_bases_built_before_the_languages_keep_their_encoder(starter: StarterEncoder) -> None:
    former = starter.former(FORMER_FINGERPRINT)
    assert former is not None
    assert former.fingerprint == FORMER_FINGERPRINT
    assert former.languages == ("en",)
    assert former.encode_texts(["a cat"]).shape == (1, 1152)
    assert starter.former("0" * 64) is None


def test_an_english_text_is_read_by_the_english_network_most_of_all(
    starter: StarterEncoder,
) -> None:
    width = starter.config.aligned_dim
    texts = ["A dog runs along the beach.", "Ein Hund rennt am Strand entlang."]
    new = starter.encode_texts(texts)[:, :width]
    former = starter.without_sentences().encode_texts(texts)[:, :width]
    cosines = np.sum(new * former, 1) / np.linalg.norm(new, axis=1)
    cosines /= np.linalg.norm(former, axis=1)
    assert cosines[0] > 0.95
    assert cosines[1] < 0.6


@pytest.mark.parametrize(
    "texts",
    [
        ["un gato naranja y peludo", "una taza de café"],
        ["un gatto arancione", "una tazza di caffè"],
        ["แมวสีส้มขนฟู", "กาแฟหนึ่งถ้วย"],
        ["복슬복슬한 주황색 고양이", "커피 한 잔"],
        ["eine flauschige orange Katze", "eine Tasse Kaffee"],
        ["ふわふわのオレンジ色の猫", "一杯のコーヒー"],
        ["рыжий пушистый кот", "чашка кофе"],
        ["قطة برتقالية", "فنجان قهوة"],
    ],
)
def test_words_of_other_languages_find_their_photos(
    starter: StarterEncoder, texts: list[str]
) -> None:
    images = starter.encode_images([photo("chelsea.png"), photo("coffee.png"), photo("rocket.jpg")])
    scores = images @ starter.encode_texts(texts).T
    assert scores.argmax(0).tolist() == [0, 1], scores


def test_without_its_second_network_it_says_so_and_reads_english(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ravlm.encoders.starter.multilingual.is_available", lambda: False)
    with pytest.warns(UserWarning, match="reads English alone"):
        encoder = DualEncoder.load("starter")
    assert encoder.fingerprint == FORMER_FINGERPRINT


@pytest.mark.parametrize("role", ["document", "query"])
def test_english_texts_are_read_by_the_english_network(starter: StarterEncoder, role: Role) -> None:
    """Of pages unlike captions both networks make something else, and the multilingual one won:
    dense search found 39 % of pages first instead of 51 %."""
    texts = ["With the option --tac of grep, which lines are shown?", "Wo ist der Hund?"]
    config = starter.config
    start = config.aligned_dim + config.raw_image_dim
    block = slice(start, start + config.raw_text_dim)
    raw = starter.encode_texts(texts, role=role)[:, block]
    english = starter.without_sentences().encode_texts(texts)[:, block]
    cosines = (raw * english).sum(1) / np.linalg.norm(raw, axis=1) / np.linalg.norm(english, axis=1)
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[1] < 0.9


def test_words_find_their_photos_in_english_and_chinese(starter: StarterEncoder) -> None:
    """The captions that the heads were trained on mention neither rockets nor coffee cups."""
    images = starter.encode_images([photo("chelsea.png"), photo("coffee.png"), photo("rocket.jpg")])
    for texts in (
        ["a fluffy orange cat", "a cup of coffee"],
        ["一只毛茸茸的橘猫", "一杯咖啡"],
    ):
        scores = images @ starter.encode_texts(texts).T
        assert scores.argmax(0).tolist() == [0, 1], scores
    names = images @ starter.encode_texts(["a cat", "a cup of coffee", "a rocket"]).T
    assert names.argmax(1).tolist() == [0, 1, 2], names


def test_long_texts_are_split_into_passages_that_fit(starter: StarterEncoder) -> None:
    text = " ".join(f"Sentence number {i} tells of one more thing." for i in range(60))
    passages = starter.passages(text)
    assert len(passages) > 1
    assert " ".join(passages) == text
    assert starter.passages("short") == ["short"]
    endless = "长" * 900
    assert "".join(starter.passages(endless)) == endless
    assert len(starter.passages(endless)) > 1


def test_save_and_load_keep_vectors_and_fingerprint(
    starter: StarterEncoder, tmp_path: Path
) -> None:
    starter.save(tmp_path / "mine")
    again = DualEncoder.load(tmp_path / "mine")
    assert again.fingerprint == starter.fingerprint
    assert again.name == str(tmp_path / "mine")
    texts = ["a dog", "two boats"]
    assert np.abs(again.encode_texts(texts) - starter.encode_texts(texts)).max() < 1e-6


def test_a_missing_weight_is_an_error_never_a_random_tower(
    starter: StarterEncoder, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    starter.save(tmp_path / "mine")
    weights = load_file(tmp_path / "mine" / "model.safetensors")
    del weights["text.0.linear"]
    save_file(weights, tmp_path / "mine" / "model.safetensors")
    with pytest.raises(Mismatch, match=r"missing: text\.0\.linear"):
        DualEncoder.load(tmp_path / "mine")


def test_names_that_are_not_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match='Did you mean "starter"'):
        DualEncoder.load("startr")
    (tmp_path / "config.json").write_text('{"architecture": "gpt2"}')
    with pytest.raises(Mismatch, match="architecture 'gpt2'"):
        DualEncoder.load(tmp_path)


def test_a_broken_image_among_good_ones_is_named(starter: StarterEncoder, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not an image")
    with pytest.raises(BrokenData, match=r"bad\.jpg"):
        starter.encode_images([Image.new("RGB", (9, 9)), bad])
