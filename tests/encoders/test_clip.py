"""CLIP-like checkpoints: the same vectors as with Transformers, and no random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ravlm import runtime
from ravlm.encoders import hub_files
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.clip import ClipEncoder
from ravlm.encoders.hub_files import hash_weights, weight_files
from ravlm.encoders.torch_encoder import unit
from ravlm.errors import BrokenData, Mismatch, MissingExtra, NotFound
from tests.encoders.conformance import LONG, TEXTS, cosines, draw_image
from tests.helpers import embedder_checkpoints, encoder_checkpoints

IMAGES = [draw_image(150, 100, 1), draw_image(70, 200, 2), draw_image(32, 32, 3)]
SENTENCES = [*TEXTS, LONG]
PROJECTION = "visual_projection.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("dual")
    return {name: write(top / name) for name, write in encoder_checkpoints.DUAL.items()}


@pytest.fixture
def clip(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the tiny CLIP, to be damaged."""
    for path in folders["clip"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def in_dtype(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(runtime, "inference_dtype", lambda on: dtype)


def reference_vectors(folder: Path, padding: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of `IMAGES` and `SENTENCES` with plain Transformers, in fp32, one item at a time."""
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    limit = min(
        processor.tokenizer.model_max_length, model.config.text_config.max_position_embeddings
    )
    rows: tuple[list[Any], list[Any]] = ([], [])
    with torch.no_grad():
        for image in IMAGES:
            rows[0].append(
                model.get_image_features(
                    **processor(images=image, return_tensors="pt")
                ).pooler_output
            )
        for text in SENTENCES:
            pieces = processor(
                text=text, padding=padding, truncation=True, max_length=limit, return_tensors="pt"
            )
            rows[1].append(model.get_text_features(**pieces).pooler_output)
    image, text = (torch.nn.functional.normalize(torch.cat(row)).numpy() for row in rows)
    return image, text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", encoder_checkpoints.DUAL)
def test_numbers_are_those_of_transformers(
    name: str, dtype: torch.dtype, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_dtype(monkeypatch, dtype)
    encoder = DualEncoder.load(folders[name])
    image, text = reference_vectors(
        folders[name], "max_length" if name.startswith("siglip") else "longest"
    )
    vectors = (
        encoder.encode_images(IMAGES, batch_size=2),
        encoder.encode_texts(SENTENCES, batch_size=3),
    )
    if dtype == torch.float32:
        assert np.abs(vectors[0] - image).max() < 5e-6
        assert np.abs(vectors[1] - text).max() < 5e-6
    assert cosines(vectors[0], image).min() >= 0.999
    assert cosines(vectors[1], text).min() >= 0.999


def test_siglip_reads_its_padding(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded only to the longest text of the batch, a vector had a cosine of 0.4 to the right
    one."""
    in_dtype(monkeypatch, torch.float32)
    encoder = DualEncoder.load(folders["siglip"])
    assert isinstance(encoder, ClipEncoder)
    right = encoder.encode_texts(["a cat"])
    encoder.tokenizer.pad_to_max = False
    assert cosines(right, encoder.encode_texts(["a cat"])).max() < 0.95


def test_fast_preprocessing_equals_the_processor(folders: dict[str, Path]) -> None:
    quick = {}
    for name, folder in folders.items():
        encoder = DualEncoder.load(folder)
        assert isinstance(encoder, ClipEncoder)
        processor = encoder.image_processor
        quick[name] = processor._plan is not None
        slow = processor._run_processor(IMAGES[1])
        inputs = [processor.preprocess(IMAGES[1])]
        for key, x in processor.collate(inputs, torch.device("cpu"), torch.float32).items():
            assert np.abs(x[0].numpy() - slow[key]).max() < 1e-4
    assert quick == {"clip": True, "chinese_clip": True, "siglip": True, "siglip2": False}


def test_an_old_checkpoint(folders: dict[str, Path], clip: Path) -> None:
    """Its processor was called a feature extractor, sizes were plain numbers, and the vocabulary
    was in two files."""
    from transformers import AutoTokenizer

    new = json.loads((clip / "processor_config.json").read_text())["image_processor"]
    names = ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std", "resample")
    subset = {name: new[name] for name in names}
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, **subset}
    (clip / "processor_config.json").unlink()
    (clip / "preprocessor_config.json").write_text(json.dumps(old))
    (clip / "vocab.json").write_text(json.dumps(AutoTokenizer.from_pretrained(clip).get_vocab()))
    (clip / "merges.txt").write_text("#version: 0.2\n")
    (clip / "tokenizer.json").unlink()
    (clip / "tokenizer_config.json").write_text(
        '{"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}'
    )
    vectors, want = DualEncoder.load(clip), DualEncoder.load(folders["clip"])
    assert cosines(vectors.encode_images(IMAGES), want.encode_images(IMAGES)).min() > 0.9999
    assert cosines(vectors.encode_texts(SENTENCES), want.encode_texts(SENTENCES)).min() > 0.9999


def test_texts_from_many_threads(folders: dict[str, Path]) -> None:
    """The threads of a server share an encoder, and a tokenizer stores its truncation setting:
    calls must not interfere."""
    encoder = DualEncoder.load(folders["clip"])
    want, passages = encoder.encode_texts(SENTENCES), encoder.passages(LONG)
    with ThreadPoolExecutor(4) as pool:
        vectors = [pool.submit(encoder.encode_texts, SENTENCES) for _ in range(12)]
        pieces = [pool.submit(encoder.passages, LONG) for _ in range(12)]
        assert all(cosines(future.result(), want).min() > 0.9999 for future in vectors)
        assert all(future.result() == passages for future in pieces)


def test_a_very_thin_image(folders: dict[str, Path]) -> None:
    """With its shorter edge resized to 32 pixels, this one took 0.7 GB."""
    encoder = DualEncoder.load(folders["clip"])
    thread = Image.new("RGB", (1, 230_000), "red")
    assert encoder.prepare(thread).size == (1, 16)
    middle = Image.new("RGB", (1, 16), "red")
    assert cosines(encoder.encode_images([thread]), encoder.encode_images([middle])).min() > 0.9999


def test_languages_depend_on_the_vocabulary(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import BertTokenizer

    assert DualEncoder.load(folders["clip"]).languages == ("en",)
    assert DualEncoder.load(folders["chinese_clip"]).languages == ("en",)  # few characters
    for path in folders["chinese_clip"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"今天气很好，孩子们在公园里玩一只猫睡桌上",
    ]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(tmp_path)
    assert DualEncoder.load(tmp_path).languages == ("en", "zh")


def test_training_the_model_changes_what_is_encoded_and_saved(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`model` is in fp32 for any inference dtype; changes to it must not be lost."""
    in_dtype(monkeypatch, torch.bfloat16)
    encoder = DualEncoder.load(folders["clip"])
    assert isinstance(encoder, ClipEncoder)
    before, name = encoder.encode_texts(TEXTS), encoder.fingerprint
    weights = dict(encoder.model.named_parameters())
    assert {p.dtype for p in weights.values()} == {torch.float32}
    assert encoder.fingerprint == name  # unchanged
    optimizer = torch.optim.SGD(encoder.model.parameters(), lr=1.0)
    encoder.model.train()
    _, pieces = next(encoder.tokenizer.batches(["a dog"], 1, encoder.device))
    encoder.model.text_features(**pieces)[:, 0].sum().backward()
    optimizer.step()
    after = encoder.encode_texts(TEXTS)
    assert encoder.model.training
    assert cosines(before, after).min() < 0.999
    assert encoder.fingerprint != name
    encoder.save(tmp_path / "trained")
    again = DualEncoder.load(tmp_path / "trained")
    assert again.fingerprint == encoder.fingerprint
    assert cosines(again.encode_texts(TEXTS), after).min() > 0.9999


def test_a_tower_with_a_weight_that_is_not_a_number(folders: dict[str, Path]) -> None:
    """Its vectors were NaN; they passed every comparison with a threshold."""
    encoder = DualEncoder.load(folders["clip"])
    assert isinstance(encoder, ClipEncoder)
    images = [draw_image(40, 30, seed) for seed in (1, 2)]
    with torch.no_grad():
        next(encoder.model.network.vision_model.parameters()).fill_(torch.nan)
    with pytest.raises(BrokenData, match="NaN or infinite values for 2 of 2 inputs"):
        encoder.encode_images(images)
    assert encoder.encode_texts(TEXTS).shape == (len(TEXTS), encoder.dim)


def test_a_tower_can_be_frozen(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        encoder = DualEncoder.load(folder)
        assert isinstance(encoder, ClipEncoder)
        encoder.model.freeze(image=True, text=False)
        trained = {key for key, p in encoder.model.named_parameters() if p.requires_grad}
        assert any("text_model" in key for key in trained), name
        assert not any("vis" in key for key in trained), name
        encoder.model.train()
        assert encoder.model.network.text_model.training
        assert not encoder.model.network.vision_model.training


def test_the_fingerprint_names_weights_and_preprocessing(clip: Path) -> None:
    first = DualEncoder.load(clip).fingerprint
    assert DualEncoder.load(clip).fingerprint == first
    weights = load_file(clip / "model.safetensors")
    save_file(
        dict(reversed(weights.items())),
        clip / "model.safetensors",
        metadata={"format": "pt", "of": "today"},
    )
    assert DualEncoder.load(clip).fingerprint == first, (
        "the order of the weights in the file does not matter"
    )
    weights["visual_projection.weight"][0, 0] += 1e-6
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    second = DualEncoder.load(clip).fingerprint
    processor = json.loads((clip / "processor_config.json").read_text())
    processor["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    (clip / "processor_config.json").write_text(json.dumps(processor))
    assert len({first, second, DualEncoder.load(clip).fingerprint}) == 3


def test_weights_in_several_files(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    unsharded = DualEncoder.load(folders["clip"])
    for path in folders["clip"].glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    AutoModel.from_pretrained(folders["clip"]).save_pretrained(tmp_path, max_shard_size="60KB")
    files = weight_files(tmp_path)
    assert len(files) > 1
    encoder = DualEncoder.load(tmp_path)
    assert hash_weights(files) == hash_weights(weight_files(folders["clip"]))
    assert cosines(encoder.encode_texts(TEXTS), unsharded.encode_texts(TEXTS)).min() > 0.9999
    encoder.save(tmp_path / "copy")
    assert DualEncoder.load(tmp_path / "copy").fingerprint == encoder.fingerprint
    files[1].unlink()
    with pytest.raises(NotFound, match="a part of its weights"):
        DualEncoder.load(tmp_path)


# Errors


def without(name: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("text_model.encoder.layers.1.mlp.fc1.weight"),
            r"missing: text_model\.encoder\.layers\.1\.mlp\.fc1",
        ),
        (without(PROJECTION), rf"missing: {PROJECTION}"),
        (lambda w: w.update(extra=torch.zeros(2)), "unknown: extra"),
        (lambda w: w.update({PROJECTION: torch.zeros(3, 32)}), rf"of another shape: {PROJECTION}"),
    ],
    ids=["a layer", "a projection", "one too many", "a shape"],
)
def test_weights_that_do_not_fit(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str, clip: Path
) -> None:
    """Transformers initializes missing weights at random and only warns."""
    weights = load_file(clip / "model.safetensors")
    change(weights)
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=message):
        DualEncoder.load(clip)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_a_tower_without_its_weights(tower: str, clip: Path) -> None:
    weights = load_file(clip / "model.safetensors")
    subset = {name: x for name, x in weights.items() if not name.startswith(f"{tower}_model")}
    save_file(subset, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=rf"missing: {tower}_model.*\.\.\."):
        DualEncoder.load(clip)


def test_a_tower_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import CLIPTextModel, CLIPVisionModel

    CLIPTextModel.from_pretrained(folders["clip"]).save_pretrained(tmp_path / "text")
    CLIPVisionModel.from_pretrained(folders["clip"]).save_pretrained(tmp_path / "image")
    with pytest.raises(
        Mismatch, match=r"is CLIPTextModel, .* no image tower.*from_backbones\(text="
    ):
        DualEncoder.load(tmp_path / "text")
    with pytest.raises(
        Mismatch, match=r"is CLIPVisionModel, .* no text tower.*from_backbones\(image="
    ):
        DualEncoder.load(tmp_path / "image")
    with pytest.raises(Mismatch, match=r"is BertModel, .* no image tower.*from_backbones\(text="):
        DualEncoder.load(encoder_checkpoints.bert(tmp_path / "bert"))


def test_other_architectures(tmp_path: Path) -> None:
    for config, message in (
        ('{"model_type": "gpt2"}', r"is GPT2Model, .* no image tower"),
        ('{"model_type": "clap"}', "is ClapModel, .* no image tower"),
        ('{"model_type": "perpetuum"}', "perpetuum"),
        ('{"layers": 3}', "architecture None"),
    ):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(Mismatch, match=message):
            DualEncoder.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BrokenData, match="not valid JSON"):
        DualEncoder.load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(NotFound, match="not a checkpoint"):
        DualEncoder.load(tmp_path)


@pytest.mark.parametrize("lacking", ["processor_config.json", "tokenizer.json"])
def test_a_checkpoint_without_preprocessing(lacking: str, clip: Path) -> None:
    (clip / lacking).unlink()
    if lacking.startswith("tokenizer"):
        (clip / "tokenizer_config.json").unlink()
    with pytest.raises(Mismatch, match=r"no usable (image processor|tokenizer)"):
        DualEncoder.load(clip)


def test_a_tokenizer_that_needs_sentencepiece(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ImportError(
            "SiglipTokenizer requires the SentencePiece library but it was not found."
        )

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", refuse)
    with pytest.raises(MissingExtra, match=r'needs the package "sentencepiece".*"ravlm\[hub\]"'):
        DualEncoder.load(folders["siglip"])


def test_damaged_and_pickled_weights(clip: Path) -> None:
    content = (clip / "model.safetensors").read_bytes()
    (clip / "model.safetensors").write_bytes(content[:5000])
    with pytest.raises(BrokenData, match="damaged"):
        DualEncoder.load(clip)
    (clip / "model.safetensors").rename(clip / "pytorch_model.bin")
    with pytest.raises(NotFound, match="as a pickle only"):
        DualEncoder.load(clip)
    (clip / "pytorch_model.bin").unlink()
    with pytest.raises(NotFound, match=r"model\.safetensors is missing"):
        DualEncoder.load(clip)


def test_images_of_a_size_that_the_tower_does_not_accept(clip: Path) -> None:
    processor = json.loads((clip / "processor_config.json").read_text())
    processor["image_processor"]["crop_size"] = {"height": 24, "width": 24}
    (clip / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(Mismatch, match="do not fit its image processor"):
        DualEncoder.load(clip)


# The hub


@pytest.mark.parametrize(
    "name",
    [
        "nobody/nothing",
        "a/b/c",
        "../no-such-encoder",
        "no-such-folder",
        "https://x.example/x",
        "a b/c",
    ],
)
def test_names_that_do_not_exist(name: str) -> None:
    """Run in a new process, because huggingface_hub reads the environment once; nothing waits for a
    network."""
    code = f"from ravlm.encoders.auto import DualEncoder\nDualEncoder.load({name!r})"
    environment = {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HF_HOME": "/nonexistent"}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    message = process.stderr.strip().splitlines()[-1]
    assert message.startswith("ravlm.errors.NotFound: There is no")
    assert ("HF_HUB_OFFLINE" in message) == (name == "nobody/nothing"), message
    assert name in message


def test_a_hub_name_is_downloaded_once_and_kept_as_name(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []

    def snapshot(name: str, **options: Any) -> str:
        requested.append((name, options.get("revision")))
        return str(folders["clip"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    encoder = DualEncoder.load("owner/tiny-clip")
    assert encoder.name == "owner/tiny-clip"
    assert requested == [("owner/tiny-clip", None)]
    assert encoder.fingerprint == DualEncoder.load(folders["clip"]).fingerprint


def test_only_reviewed_weights_are_downloaded(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights from an open pull request of a converter were loaded: whoever could open one, or
    feed the converter, chose the weights."""
    (tmp_path / "config.json").write_text("{}")
    requested: list[tuple[str, str | None]] = []

    def snapshot(name: str, revision: str | None = None, **options: Any) -> str:
        requested.append((name, revision))
        return str(tmp_path if revision is None else folders["clip"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(NotFound, match=r"no weights in the safetensors format.*pickled@COMMIT"):
        hub_files.find_folder("owner/pickled")
    commit = "0123456789abcdef" * 2 + "01234567"
    assert hub_files.find_folder(f"owner/pickled@{commit}") == folders["clip"]
    assert requested == [("owner/pickled", None), ("owner/pickled", commit)]
    assert DualEncoder.load(f"owner/pickled@{commit}").name == f"owner/pickled@{commit}"
    for branch in ("main", "refs/pr/7", commit[:12]):
        with pytest.raises(NotFound, match="40 digits"):
            hub_files.find_folder(f"owner/pickled@{branch}")


def test_a_model_behind_terms_says_where_to_accept_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from unittest.mock import Mock

    from huggingface_hub.errors import GatedRepoError

    refusal = GatedRepoError("403 Client Error", response=Mock())
    monkeypatch.setattr("huggingface_hub.snapshot_download", Mock(side_effect=refusal))
    with pytest.raises(NotFound, match=r"accepted its terms.*huggingface\.co/owner/gated"):
        hub_files.find_folder("owner/gated")


def test_lengths_that_a_checkpoint_declares(tmp_path: Path) -> None:
    """A server shortens vectors only for models that were trained for it (Matryoshka)."""
    folder = encoder_checkpoints.clip(tmp_path / "clip")
    assert ClipEncoder.from_folder(folder, "plain").matryoshka_dims == ()
    config = json.loads((folder / "config.json").read_text())
    for key in ("matryoshka_dimensions", "matryoshka_dims"):
        (folder / "config.json").write_text(json.dumps(config | {key: [8, 4, "x", -1]}))
        assert ClipEncoder.from_folder(folder, "declared").matryoshka_dims == (4, 8)


def test_siglip_2_reads_lower_case(tmp_path: Path) -> None:
    """The tokenizer of a SigLIP 2 with a fixed image size is Gemma's, which keeps capital letters;
    "A Red BOAT" and "a red boat" were 0.18 alike."""
    from transformers import AutoTokenizer, SiglipModel

    folder = embedder_checkpoints.siglip2_fixed(tmp_path / "siglip2")
    encoder = DualEncoder.load(folder)
    texts = ["A Red BOAT", "a red boat", "ÉCOLE 42"]
    vectors = encoder.encode_texts(texts)
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        [text.lower() for text in texts], padding="max_length", max_length=24, return_tensors="pt"
    )
    with torch.no_grad():
        output = SiglipModel.from_pretrained(folder).get_text_features(inputs["input_ids"])
    expected = unit(getattr(output, "pooler_output", output)).numpy()
    assert (vectors * expected).sum(1).min() > 0.999

    keeps_case = ClipEncoder(folder, str(folder), keep_case=True)
    cased = keeps_case.encode_texts(texts)
    assert cased[0] @ cased[1] < 0.99
    assert keeps_case.fingerprint != encoder.fingerprint
    former = encoder.former(keeps_case.fingerprint)  # of a base that was built before
    assert former is not None
    assert np.abs(former.encode_texts(texts) - cased).max() < 1e-6
    assert encoder.former("of another model") is None


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (embedder_checkpoints.clipseg, "is a CLIPSegForImageSegmentation, which segments images"),
        (
            embedder_checkpoints.blip_retrieval,
            "is a BlipForImageTextRetrieval, which scores one image with one text",
        ),
    ],
)
def test_a_model_with_another_head_says_what_it_is(
    write: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """The message was a list of weights that are missing and unknown."""
    with pytest.raises(Mismatch, match=message):
        DualEncoder.load(write(tmp_path / "model"))


def test_size_and_license_are_shown_before_a_download(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model was on the disk before anybody could read under which terms."""
    from types import SimpleNamespace

    order: list[str] = []
    card = SimpleNamespace(license="other", license_name="gemma")
    config: dict[str, object] = {"model_type": "clip", "auto_map": {"AutoModel": "x.CLIP"}}
    files = [("model.safetensors", 2_340_000_000), ("config.json", 900), ("onnx/model.onnx", 9**12)]

    def model_info(self: object, name: str, **options: object) -> object:
        siblings = [SimpleNamespace(rfilename=file, size=size) for file, size in files]
        return SimpleNamespace(card_data=card, siblings=siblings, config=config)

    def snapshot(name: str, **options: object) -> str:
        order.append(capsys.readouterr().err)
        return str(folders["clip"])

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    hub_files.find_folder("owner/model")
    card.license = None
    hub_files.find_folder("OFA-Sys/chinese-clip-vit-base-patch16")
    hub_files.find_folder("owner/model")
    config["model_type"] = "jina_clip"
    with pytest.raises(Mismatch, match=r"owner/model.*custom code, which is not run \(x\.CLIP"):
        hub_files.find_folder("owner/model")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **b: "/there")
    hub_files.find_folder("owner/model")
    assert order == [
        "Downloading owner/model: 2.3 GB, license gemma (https://huggingface.co/owner/model).\n",
        "Downloading OFA-Sys/chinese-clip-vit-base-patch16: 2.3 GB, license not stated (its code: "
        "MIT) (https://huggingface.co/OFA-Sys/chinese-clip-vit-base-patch16).\n",
        "Downloading owner/model: 2.3 GB, no license is stated: ask its authors "
        "(https://huggingface.co/owner/model).\n",
        "",
    ]
