"""Files on disk to vectors: python benchmarks/encoder_speed.py [--data ../shared/data] [--photos
96]

A CLIP of the shape of ViT-B/32 with random weights, made here with Transformers' own classes: ravlm
beside sentence-transformers and plain Transformers on the same weights and files, at fp32 and at
the dtype that ravlm picks; then the starter beside plain PyTorch on its two backbones. Every figure
is a rate of one run on one machine: compare them with each other only. The order of the candidates
is turned in each round; the median of each one's rounds counts."""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.readers import read_entries
from ravlm.encoders.auto import DualEncoder

ROUNDS = 5


def make_clip(folder: Path) -> Path:
    """A checkpoint of the shape of openai/clip-vit-base-patch32, weights at random, its tokenizer
    of single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77
    )
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config={"vocab_size": len(tokenizer), **ends}))
    model.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(folder)
    return folder


def rates(candidates: dict[str, Callable[[], object]], items: int) -> dict[str, float]:
    """Items a second of each candidate: the median of some rounds."""
    found: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for round_ in range(ROUNDS):
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            start = time.perf_counter()
            candidates[name]()
            found[name].append(items / (time.perf_counter() - start))
    return {name: float(np.median(some)) for name, some in found.items()}


def processor_rate() -> dict[str, object]:
    """The processor's bare matrix product in both dtypes, GFLOP/s."""
    found: dict[str, object] = {"threads": torch.get_num_threads()}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        a @ b
        start = time.perf_counter()
        for _ in range(5):
            a @ b
        found[f"{dtype} GFLOP/s"] = round(5 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9, 1)
    return found


def starter(photos: list[Path], captions: list[str]) -> dict[str, dict[str, float]]:
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    from ravlm.encoders.starter import efficientnet, minilm

    encoder = DualEncoder.load("starter")
    network = efficientnet.load_network(efficientnet.weights_file())
    sentence = SentenceTransformer(str(minilm.model_folder()), device="cpu")
    size = encoder.image_size

    def plain() -> None:
        with torch.inference_mode():
            for i in range(0, len(photos), 16):
                pixels = [
                    np.asarray(Image.open(p).convert("RGB").resize((size, size), 3))
                    for p in photos[i : i + 16]
                ]
                network(torch.from_numpy(np.stack(pixels))).mean((2, 3))

    encoder.encode_images(photos[:8])
    encoder.encode_texts(captions[:8])
    images = rates(
        {"ravlm": lambda: encoder.encode_images(photos), "plain PyTorch": plain}, len(photos)
    )
    texts = rates(
        {
            "ravlm": lambda: encoder.encode_texts(captions),
            "sentence-transformers": lambda: sentence.encode(captions),
        },
        len(captions),
    )
    return {"starter, photos a second": images, "starter, captions a second": texts}


def clip(folder: Path, photos: list[Path]) -> dict[str, dict[str, float]]:
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from transformers import CLIPImageProcessorPil, CLIPModel

    encoder = DualEncoder.load(folder)
    sentence = SentenceTransformer(str(folder), device="cpu")
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(images=[load_image(p) for p in photos], return_tensors="pt")["pixel_values"]

    def plain() -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for i in range(0, len(photos), 32):
                opened = [Image.open(photo).convert("RGB") for photo in photos[i : i + 32]]
                inputs = processor(images=opened, return_tensors="pt")
                found = model.get_image_features(**inputs)
                rows.append(
                    torch.nn.functional.normalize(
                        getattr(found, "pooler_output", found), dim=1
                    ).numpy()
                )
        return np.concatenate(rows)

    def bare(dtype: torch.dtype) -> Callable[[], object]:
        tower = CLIPModel.from_pretrained(folder, dtype=dtype).eval()

        def run() -> None:
            with torch.inference_mode():
                for i in range(0, len(photos), 32):
                    tower.get_image_features(pixel_values=pixels[i : i + 32].to(dtype))

        return run

    reference = plain()
    picked = runtime.inference_dtype(torch.device("cpu"))
    candidates: dict[str, Callable[[], object]] = {
        f"ravlm, {picked}": lambda: encoder.encode_images(photos),
        f"bare forward pass, {picked}": bare(picked),
        "plain Transformers, float32": plain,
        "sentence-transformers, its default": lambda: sentence.encode(
            [Image.open(p) for p in photos], batch_size=32
        ),
    }
    if picked != torch.float32:
        with mock.patch.object(runtime, "inference_dtype", return_value=torch.float32):
            exact = DualEncoder.load(folder)
        candidates["ravlm, float32"] = lambda: exact.encode_images(photos)
        candidates["bare forward pass, float32"] = bare(torch.float32)
    cosines = (encoder.encode_images(photos) * reference).sum(1)
    return {
        "CLIP ViT-B/32 shape, photos a second": rates(candidates, len(photos)),
        "least cosine to plain fp32": {"ravlm": float(cosines.min())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(runtime.cpu_count())
    entries = list(
        itertools.islice(read_entries(given.data / "flickr8k" / "metadata.jsonl"), given.photos)
    )
    photos = [Path(str(e.image)) for e in entries]
    captions = [text for e in entries for text in e.texts]
    figures: dict[str, object] = {"processor": processor_rate()}
    with tempfile.TemporaryDirectory() as folder:
        figures |= clip(make_clip(Path(folder) / "clip"), photos) | starter(photos, captions)
    for what, values in figures.items():
        print(what)
        for name, value in values.items():  # type: ignore[attr-defined]
            print(
                f"  {name:45} {value:.4g}" if isinstance(value, float) else f"  {name:45} {value}"
            )
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
