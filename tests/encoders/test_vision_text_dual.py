"""Two backbones with heads: any image model, any text model, one checkpoint folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.losses import softmax_contrastive
from ravlm.encoders.vision_text_dual import VisionTextDualEncoder
from ravlm.errors import InvalidInput, Mismatch, NotFound
from tests.encoders.conformance import LONG, cosines, draw_image
from tests.helpers import chat_checkpoints, encoder_checkpoints, family_checkpoints

IMAGES = [draw_image(150, 100, 1), draw_image(70, 200, 2), draw_image(32, 32, 3)]
SENTENCES = ["a cat", "two children build a castle of sand", LONG]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("backbones")
    return {
        name: write(top / name)
        for name, write in (encoder_checkpoints.IMAGE | encoder_checkpoints.TEXT).items()
    }


def dual_encoder(
    folders: dict[str, Path], image: str = "vit", text: str = "bert", **options: int
) -> VisionTextDualEncoder:
    encoder = DualEncoder.from_backbones(folders[image], folders[text], **options)
    assert isinstance(encoder, VisionTextDualEncoder)
    return encoder


def image_inputs(encoder: VisionTextDualEncoder) -> dict[str, torch.Tensor]:
    return encoder.image_processor.collate(
        [encoder.image_processor.preprocess(image) for image in IMAGES],
        encoder.device,
        torch.float32,
    )


@pytest.mark.parametrize(
    ("image", "text"), [("vit", "bert"), ("dinov2", "roberta"), ("convnext", "modernbert")]
)
def test_features_are_what_the_backbones_give(
    image: str, text: str, folders: dict[str, Path]
) -> None:
    """ViT came without its pooler, DINOv2 pools by its class token, ConvNeXt over its grid."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    encoder = dual_encoder(folders, image, text, dim=24)
    image_model, text_model = (
        AutoModel.from_pretrained(folders[name]).eval() for name in (image, text)
    )
    processor = AutoImageProcessor.from_pretrained(folders[image], backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folders[text])
    with torch.no_grad():
        output = image_model(**processor(images=IMAGES, return_tensors="pt"))
        pooled = output.last_hidden_state.mean(1) if image == "vit" else output.pooler_output
        assert (
            np.abs(
                encoder.model.image_pooled(**image_inputs(encoder)).numpy() - pooled.numpy()
            ).max()
            < 1e-4
        )
        expected = torch.nn.functional.normalize(encoder.model.image_head(pooled), dim=1)
        assert cosines(encoder.encode_images(IMAGES), expected.numpy()).min() > 0.999
        for row, limit in zip(
            encoder.encode_texts(SENTENCES), [encoder.tokenizer.max_length] * 3, strict=True
        ):
            assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
            assert limit == {"bert": 40, "roberta": 28, "modernbert": 60}[text]
        pieces = tokenizer(
            SENTENCES[1],
            return_tensors="pt",
            truncation=True,
            max_length=encoder.tokenizer.max_length,
        )
        states = text_model(**pieces).last_hidden_state[0]
        expected = torch.nn.functional.normalize(encoder.model.text_head(states.mean(0)), dim=0)
        assert encoder.encode_texts(SENTENCES)[1] @ expected.numpy() > 0.999


def test_the_seed_decides_the_heads(folders: dict[str, Path]) -> None:
    first, again, third = (dual_encoder(folders, dim=8, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != third.fingerprint
    assert (first.encode_texts(SENTENCES) == again.encode_texts(SENTENCES)).all()
    assert first.dim == 8


def test_frozen_towers_stay_and_heads_learn(folders: dict[str, Path], tmp_path: Path) -> None:
    """A frozen tower in training mode would apply dropout."""
    encoder = dual_encoder(folders, dim=16)
    model = encoder.model.train()
    assert model.training
    assert not model.image.training
    heads = {"image_head.weight", "text_head.weight"}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == heads
    before = {name: x.clone() for name, x in model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    _, pieces = next(encoder.tokenizer.batches(SENTENCES, 3, encoder.device))
    losses = []
    for _ in range(60):
        image, text = model.image_features(**image_inputs(encoder)), model.text_features(**pieces)
        loss = softmax_contrastive(image, text, torch.tensor(10.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    changed = {name for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == heads
    rows = next(encoder.tokenizer.batches(SENTENCES, 3, encoder.device))[0]
    scores = (
        encoder.encode_images(IMAGES) @ encoder.encode_texts([SENTENCES[row] for row in rows]).T
    )
    assert scores.argmax(1).tolist() == [0, 1, 2]
    encoder.save(tmp_path / "trained")
    again = DualEncoder.load(tmp_path / "trained")
    assert again.fingerprint == encoder.fingerprint
    assert np.abs(again.encode_texts(SENTENCES) - encoder.encode_texts(SENTENCES)).max() < 1e-6


def test_towers_can_be_unfrozen(folders: dict[str, Path]) -> None:
    model = dual_encoder(folders).model
    model.freeze(image=True, text=False)
    model.train()
    assert model.text.training
    assert not model.image.training
    assert all(p.requires_grad for p in model.text.parameters())
    assert not any(p.requires_grad for p in model.image.parameters())


def test_the_checkpoint_does_not_need_the_backbones(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("dinov2", "roberta"):
        shutil.copytree(folders[name], tmp_path / name)
    encoder = DualEncoder.from_backbones(str(tmp_path / "dinov2"), tmp_path / "roberta", dim=12)
    for name in ("dinov2", "roberta"):
        shutil.rmtree(tmp_path / name)
    encoder.save(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "config.json", "image", "model.safetensors", "text",
    ]  # fmt: skip
    again = DualEncoder.load(tmp_path / "mine")
    assert np.abs(again.encode_images(IMAGES) - encoder.encode_images(IMAGES)).max() < 1e-6


def test_towers_of_a_dual_encoder_are_backbones_too(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """As the error message for a single tower suggests."""
    from transformers import CLIPTextModel, CLIPVisionModel

    clip = encoder_checkpoints.clip(tmp_path / "clip")
    for kind, part in ((CLIPVisionModel, "image"), (CLIPTextModel, "text")):
        shutil.copytree(
            clip, tmp_path / part, ignore=shutil.ignore_patterns("config.json", "*.safetensors")
        )
        kind.from_pretrained(clip).save_pretrained(tmp_path / part)
    encoder = DualEncoder.from_backbones(tmp_path / "image", tmp_path / "text", dim=12)
    assert encoder.encode_images(IMAGES).shape == encoder.encode_texts(SENTENCES).shape == (3, 12)


def test_a_checkpoint_with_the_old_architecture_name(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Early versions called the architecture "paired"."""
    encoder = dual_encoder(folders, dim=12)
    encoder.save(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    path.write_text(path.read_text().replace('"vision_text_dual"', '"paired"'))
    assert '"paired"' in path.read_text()
    again = DualEncoder.load(tmp_path / "mine")
    assert isinstance(again, VisionTextDualEncoder)
    assert np.abs(again.encode_texts(SENTENCES) - encoder.encode_texts(SENTENCES)).max() < 1e-6


# Errors


def damaged(source: Path, folder: Path, drop: str | None = None, add: str | None = None) -> Path:
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    if drop:
        del weights[drop]
    if add:
        weights[add] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("name", "drop", "add", "message"),
    [
        ("vit", "vit.layernorm.weight", None, r"missing: layernorm\.weight"),
        ("vit", None, "vit.layers.7.output.bias", r"unknown: vit\.layers\.7\.output\.bias"),
        ("dinov2", None, "classifier.weight", r"unknown: classifier\.weight"),
        ("bert", "bert.encoder.layer.1.output.dense.weight", None, r"missing: encoder\.layer\.1"),
        ("roberta", None, "encoder.layer.2.output.dense.bias", r"unknown: encoder\.layer\.2"),
    ],
)
def test_backbones_whose_weights_do_not_fit(
    name: str,
    drop: str | None,
    add: str | None,
    message: str,
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    """A task head is ignored, but not a layer that is missing from the configuration."""
    folder = damaged(folders[name], tmp_path / name, drop, add)
    parts = (
        (folder, folders["bert"]) if name in encoder_checkpoints.IMAGE else (folders["vit"], folder)
    )
    with pytest.raises(Mismatch, match=message):
        DualEncoder.from_backbones(*parts)


def test_backbones_of_the_wrong_kind(folders: dict[str, Path], tmp_path: Path) -> None:
    decoder = chat_checkpoints.qwen2(tmp_path / "qwen2")
    for image, text, message in (
        (folders["bert"], folders["bert"], '"bert" model, which cannot be the image tower'),
        (folders["vit"], folders["vit"], '"vit" model, which cannot be the text tower'),
        (decoder, folders["bert"], '"qwen2" model, which cannot be the image tower'),
    ):
        with pytest.raises(Mismatch, match=message):
            DualEncoder.from_backbones(image, text)
    with pytest.raises(NotFound, match="is not a hub name"):
        DualEncoder.from_backbones(tmp_path / "nowhere", folders["bert"])
    for dim in (0, 2.5):
        with pytest.raises(InvalidInput, match="dim is"):
            DualEncoder.from_backbones(folders["vit"], folders["bert"], dim=dim)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("text_head.weight", None, r"missing: text_head\.weight"),
        (None, "third_head.weight", r"unknown: third_head"),
    ],
)
def test_a_saved_pair_is_loaded_strictly(
    drop: str | None, add: str | None, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    dual_encoder(folders).save(tmp_path / "mine")
    with pytest.raises(Mismatch, match=message):
        DualEncoder.load(damaged(tmp_path / "mine", tmp_path / "damaged", drop, add))
    shutil.rmtree(tmp_path / "mine" / "text")
    with pytest.raises(Mismatch, match='lacks its folder "text"'):
        DualEncoder.load(tmp_path / "mine")


def test_the_image_tower_of_a_whole_clip(folders: dict[str, Path], tmp_path: Path) -> None:
    """A whole CLIP was refused: "clip" cannot be the image tower."""
    from transformers import CLIPVisionModel

    clip = encoder_checkpoints.clip(tmp_path / "clip")
    encoder = DualEncoder.from_backbones(clip, folders["bert"], dim=12)
    assert isinstance(encoder, VisionTextDualEncoder)
    inputs = [encoder.image_processor.preprocess(image) for image in IMAGES]
    pixels = encoder.image_processor.collate(inputs, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        pooled = encoder.model.image_pooled(**pixels)
        expected = CLIPVisionModel.from_pretrained(clip).eval()(**pixels).pooler_output
    assert (pooled - expected).abs().max() < 1e-5
    encoder.save(tmp_path / "mine")
    assert '"clip_vision_model"' in (tmp_path / "mine" / "image" / "config.json").read_text()
    again = DualEncoder.load(tmp_path / "mine")
    assert np.abs(again.encode_images(IMAGES) - encoder.encode_images(IMAGES)).max() < 1e-2
    assert again.fingerprint == encoder.fingerprint


def test_a_masked_autoencoder_sees_the_whole_image(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """ViT-MAE shuffled the patches at random, even without masks: in bf16 two vectors of one image
    differed by 0.002, and encoding drew from the random numbers of a seeded training."""
    from transformers import ViTModel

    mae = family_checkpoints.vit_mae(tmp_path / "mae")
    encoder = DualEncoder.from_backbones(mae, folders["bert"], dim=12)
    assert isinstance(encoder, VisionTextDualEncoder)
    random_state = torch.get_rng_state()
    first = encoder.encode_images(IMAGES)
    assert np.array_equal(first, encoder.encode_images(IMAGES))
    assert torch.equal(torch.get_rng_state(), random_state)
    encoder.save(tmp_path / "mine")
    again = DualEncoder.load(tmp_path / "mine")
    assert np.array_equal(first, again.encode_images(IMAGES))

    network = ViTModel.from_pretrained(mae, add_pooling_layer=False).eval()  # it has no masks
    inputs = image_inputs(encoder)
    with torch.inference_mode():
        states = encoder.model.image(**inputs).last_hidden_state  # (n, 1 + patches, width)
        expected = network(**inputs).last_hidden_state
    assert states.shape == expected.shape
    assert (states - expected).abs().max() < 1e-5


def test_a_t5_reads_texts_with_its_encoder(folders: dict[str, Path], tmp_path: Path) -> None:
    """T5 was refused, because it has a decoder, too; that is left out."""
    from transformers import T5EncoderModel

    t5 = family_checkpoints.t5(tmp_path / "t5")
    encoder = DualEncoder.from_backbones(folders["vit"], t5, dim=12)
    assert isinstance(encoder, VisionTextDualEncoder)
    assert not any("decoder" in name for name in encoder.model.state_dict())
    network = T5EncoderModel.from_pretrained(t5).eval()
    for text in SENTENCES:
        _, inputs = next(encoder.tokenizer.batches([text], 1, torch.device("cpu")))
        with torch.no_grad():
            expected = network(**inputs).last_hidden_state.mean(1)
            assert (encoder.model.text_pooled(**inputs) - expected).abs().max() < 1e-5


def test_a_decoder_is_pooled_by_its_last_token(folders: dict[str, Path], tmp_path: Path) -> None:
    """The mean of a decoder's states is mostly of tokens that have seen only a part of the text."""
    from transformers import AutoTokenizer, Qwen2Model

    qwen2 = chat_checkpoints.qwen2(tmp_path / "qwen2")
    encoder = DualEncoder.from_backbones(folders["vit"], qwen2, dim=12)
    assert isinstance(encoder, VisionTextDualEncoder)
    network, tokenizer = Qwen2Model.from_pretrained(qwen2), AutoTokenizer.from_pretrained(qwen2)
    rows, batch = next(encoder.tokenizer.batches([*SENTENCES, ""], 9, torch.device("cpu")))
    with torch.no_grad():
        pooled = encoder.model.text_pooled(**batch)
        for row, text in enumerate([[*SENTENCES, ""][i] for i in rows]):
            ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
            expected = network.eval()(input_ids=ids).last_hidden_state[0, -1]
            assert (pooled[row] - expected).abs().max() < 1e-4
    encoder.save(tmp_path / "mine")
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert config.pop("text_pooling") == "last"
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    former = DualEncoder.load(tmp_path / "mine")  # as earlier versions saved it
    assert (former.encode_texts(SENTENCES) * encoder.encode_texts(SENTENCES)).sum(1).max() < 0.99
    assert former.model.config.text_pooling == "mean"  # type: ignore[attr-defined]


def test_a_model_of_timm_names_what_it_needs(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.is_torchvision_available", lambda: False)
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Mismatch, match=r'a model of timm and needs .*"timm" and "torchvision"'):
        DualEncoder.from_backbones(tmp_path, folders["bert"])
    with pytest.raises(Mismatch, match=r"an image model of timm \(vit_tiny.*from_backbones\(image"):
        DualEncoder.load(tmp_path)


def test_a_model_of_timm(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its processor gives tensors only, its configuration names no `model_type`."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    pytest.importorskip("torchvision", reason="timm needs torchvision")
    from transformers import TimmWrapperConfig, TimmWrapperModel

    config = TimmWrapperConfig(
        architecture="resnet18", model_args={"width": 8}, num_labels=3, pretrained_cfg={}
    )
    config.pretrained_cfg = timm.create_model("resnet18").pretrained_cfg | {"num_classes": 0}
    TimmWrapperModel(config).eval().save_pretrained(tmp_path / "timm")
    encoder = DualEncoder.from_backbones(tmp_path / "timm", folders["bert"], dim=12)
    vectors = encoder.encode_images(IMAGES)
    assert vectors.shape == (3, 12)
    encoder.save(tmp_path / "mine")
    again = DualEncoder.load(tmp_path / "mine")
    assert np.abs(again.encode_images(IMAGES) - vectors).max() < 1e-2
