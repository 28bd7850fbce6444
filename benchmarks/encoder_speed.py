"""Measure the speed from files on disk to vectors:
python -m benchmarks.encoder_speed [--data ../shared/data] [--photos 96]

For a CLIP of the size of ViT-B/32 with random weights: ravlm, sentence-transformers and plain
Transformers on the same weights and files, in fp32 and in the dtype that ravlm chooses. Then the
starter, compared with plain PyTorch on its two backbones. All figures are rates of one run on one
machine: compare them only with each other. The order of the candidates rotates from round to round;
the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from benchmarks.data import DATA
from benchmarks.reports import write_json
from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.readers import read_entries
from ravlm.encoders.auto import DualEncoder

ROUNDS = 5


def make_clip(folder: Path) -> Path:
    """Write a checkpoint of the size of openai/clip-vit-base-patch32, with random weights and a
    tokenizer of single bytes."""
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
    """Return the items per second of each candidate: the median over the rounds."""
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(ROUNDS):
        for name in names:
            start = time.perf_counter()
            candidates[name]()
            measured[name].append(items / (time.perf_counter() - start))
        names = names[1:] + names[:1]
    return {name: float(np.median(values)) for name, values in measured.items()}


def processor_rate() -> dict[str, object]:
    """Return the speed of a matrix product in both dtypes, in GFLOP/s."""
    figures: dict[str, object] = {"threads": torch.get_num_threads()}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(1024, 1024).to(dtype)
        b = torch.randn(1024, 1024).to(dtype)
        a @ b  # warm-up
        start = time.perf_counter()
        for _ in range(5):
            a @ b
        seconds = time.perf_counter() - start
        figures[f"{dtype} GFLOP/s"] = round(5 * 2 * 1024**3 / seconds / 1e9, 1)
    return figures


def measure_starter(photos: list[Path], captions: list[str]) -> dict[str, dict[str, float]]:
    """Compare the starter with plain PyTorch and sentence-transformers on its backbones."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    from ravlm.encoders.starter import efficientnet_torch, minilm

    encoder = DualEncoder.load("starter")
    network = efficientnet_torch.load_network()
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


def measure_clip(folder: Path, photos: list[Path]) -> dict[str, dict[str, float]]:
    """Compare ravlm with sentence-transformers and Transformers on a CLIP checkpoint."""
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
                images = [Image.open(photo).convert("RGB") for photo in photos[i : i + 32]]
                inputs = processor(images=images, return_tensors="pt")
                output = model.get_image_features(**inputs)
                vectors = getattr(output, "pooler_output", output)
                rows.append(torch.nn.functional.normalize(vectors, dim=1).numpy())
        return np.concatenate(rows)

    def bare(dtype: torch.dtype) -> Callable[[], object]:
        tower = CLIPModel.from_pretrained(folder, dtype=dtype).eval()

        def run() -> None:
            with torch.inference_mode():
                for i in range(0, len(photos), 32):
                    tower.get_image_features(pixel_values=pixels[i : i + 32].to(dtype))

        return run

    reference = plain()
    chosen_dtype = runtime.inference_dtype(torch.device("cpu"))
    candidates: dict[str, Callable[[], object]] = {
        f"ravlm, {chosen_dtype}": lambda: encoder.encode_images(photos),
        f"bare forward pass, {chosen_dtype}": bare(chosen_dtype),
        "plain Transformers, float32": plain,
        "sentence-transformers, its default": lambda: sentence.encode(
            [Image.open(p) for p in photos], batch_size=32
        ),
    }
    if chosen_dtype != torch.float32:
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
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(runtime.cpu_count())
    rows = read_entries(options.data / "flickr8k" / "metadata.jsonl")
    entries = list(itertools.islice(rows, options.photos))
    photos = [Path(str(entry.image)) for entry in entries]
    captions = [text for entry in entries for text in entry.texts]
    figures: dict[str, Mapping[str, object]] = {"processor": processor_rate()}
    with tempfile.TemporaryDirectory() as folder:
        figures |= measure_clip(make_clip(Path(folder) / "clip"), photos)
        figures |= measure_starter(photos, captions)
    for title, values in figures.items():
        print(title)
        for name, value in values.items():
            print(f"  {name:45} {f'{value:.4g}' if isinstance(value, float) else value}")
    write_json(figures, options.json)


if __name__ == "__main__":
    main()
