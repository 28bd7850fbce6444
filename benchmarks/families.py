"""Measure what ravlm does with each family of Hugging Face models:
python -m benchmarks.families [--json benchmarks/results/families.json]

For each family it writes a tiny untrained checkpoint with Transformers' own classes, so it runs
offline and within a minute. Columns: the checkpoint loads; the outputs equal those of plain
Transformers; a batch gives what its items give one by one; a stream gives the same text; another
image changes the output; a few steps on one batch lower its loss (generators: by LoRA). The table
of docs/choosing.md is what this prints."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import torch
from PIL import Image

from benchmarks.encoder_families import (
    DUAL_ENCODERS,
    IMAGE_BACKBONES,
    TEXT_BACKBONES,
    measure_dual_encoder,
    measure_image_backbone,
    measure_text_backbone,
)
from benchmarks.family_figures import TOLERANCE, Family, Figures, draw_images, learns
from benchmarks.reports import write_json
from ravlm import runtime
from ravlm.encoders.hub_files import quiet
from ravlm.errors import Mismatch
from ravlm.generation.base import Request, VerbName
from ravlm.generation.chat.checkpoint import auto_class
from ravlm.generation.chat.decoding import SamplingParams
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.generation.chat.prompts import ChatTurn
from ravlm.records import Entry, Evidence, Hit, Part
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.chat_tuning import ChatTuningStep
from ravlm.training.lora import LoraConfig
from tests.helpers import chat_checkpoints, family_checkpoints
from tests.helpers.streams import read_stream

RESULTS = Path(__file__).parent / "results" / "families.json"
_MAX_TOKENS = 6
_CHAT = chat_checkpoints.CHAT_MODELS
_FORMS = family_checkpoints.PROMPTED
GENERATORS = {
    "qwen2_vl": Family("Qwen2-VL", _CHAT["qwen2_vl"]),
    "idefics3": Family("SmolVLM, Idefics3", _CHAT["idefics3"]),
    "smolvlm": Family("SmolVLM 2", _CHAT["smolvlm"]),
    "llava": Family("LLaVA 1.5", _CHAT["llava"]),
    "internvl": Family("InternVL 3", family_checkpoints.internvl),
    "gemma3": Family("Gemma 3", _CHAT["gemma3"]),
    "gemma4": Family("Gemma 4", family_checkpoints.gemma4),
    "pixtral": Family("Pixtral", family_checkpoints.pixtral),
    "mistral3": Family("Mistral Small 3", family_checkpoints.mistral3),
    "paligemma": Family("PaliGemma", _FORMS["paligemma"]),
    "blip2": Family("BLIP-2", _FORMS["blip2"]),
    "instructblip": Family("InstructBLIP", _FORMS["instructblip"]),
    "florence2": Family("Florence-2: captions and stories", _FORMS["florence2"]),
    "t5": Family("Flan-T5: text alone", _FORMS["t5"]),
    "qwen2": Family("Qwen2 and other language models: text alone", _CHAT["qwen2"]),
}
# Generators


def measure_generator(family: Family, folder: Path) -> Figures:
    """Measure a chat model in fp32."""
    try:
        generator = ChatGenerator.load(
            family.write(folder), max_tokens=_MAX_TOKENS, dtype=torch.float32
        )
    except Mismatch as error:
        needs = "torchvision" if "torchvision" in str(error) else str(error)
        return Figures(family.models, loads=False, needs=needs)
    images = draw_images()
    requests = _requests(generator, images)
    answers = generator.generate(requests)
    singles = [generator.generate([request])[0] for request in requests]
    streams = [read_stream(generator.stream(request))[1] for request in requests[:1]]
    first_tokens = [_certainty(generator, image) for image in images[:2]]
    return Figures(
        family.models,
        loads=True,
        equal=_is_equal(generator, requests[0], folder),
        batch=all(
            one.text == other.text
            and abs(one.trace["certainty"] - other.trace["certainty"]) < TOLERANCE
            for one, other in zip(answers, singles, strict=True)
        ),
        stream=[answer.text for answer in streams] == [answer.text for answer in singles[:1]],
        sees=abs(first_tokens[0] - first_tokens[1]) > 1e-7
        if generator.model.reads_images
        else None,
        trains=learns(
            ChatTuningStep(
                generator, OneBatch(requests), LoraConfig(r=4), pack=False, dtype=torch.float32
            )
        ),
    )


class OneBatch(ChatExamples):
    """The same requests in every step, with the same replies."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.batch_size = len(requests)
        self.requests = requests

    def batch(self, index: int, rng: random.Random) -> list[ChatExample]:
        return [ChatExample(request, ("The finch is red.",)) for request in self.requests]


def _requests(generator: ChatGenerator, images: Sequence[Image.Image]) -> list[Request]:
    """Return two requests of one batch: with texts of other lengths and other images."""
    texts = ("The finch is red.", "A heron eats fish by the sea, and sings at dawn.")
    hits = [Hit(Entry(text[:5], None, (text,)), 0.5, Part("text")) for text in texts]
    form = generator.model.template.form
    task: VerbName = "ask" if form is None or "ask" in form.questions else "caption"
    question = "What is it?" if task == "ask" else ""
    request_images = images if generator.model.reads_images else [None, None]
    return [
        Request(task, question, request_images[0], Evidence(tuple(hits[:1]))),
        Request(task, question, request_images[1], Evidence(tuple(hits))),
    ]


def _is_equal(generator: ChatGenerator, request: Request, folder: Path) -> bool:
    """Return whether plain Transformers generates the same from the same prompt."""
    model = generator.model
    turns = generator.build_turns(request)
    (reply,) = model.complete([turns], SamplingParams(_MAX_TOKENS))
    loader = auto_class(model.network.config, folder.name)
    with quiet():
        network = loader.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = model.inputs([turns])
    with torch.inference_mode():
        ids = network.generate(**inputs, max_new_tokens=_MAX_TOKENS, do_sample=False)[0].tolist()
    prompt = inputs["input_ids"][0].tolist()
    ids = ids[len(prompt) :] if ids[: len(prompt)] == prompt else ids
    text = model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text == reply.text


def _certainty(generator: ChatGenerator, image: Image.Image) -> float:
    """Return the probability of the likeliest first token behind an image."""
    turns = [ChatTurn("user", (image, "What is it?"))]
    if not generator.model.reads_images:
        return 0.0
    return generator.model.complete([turns], SamplingParams(1))[0].certainty


KINDS = {
    "generator": (GENERATORS, measure_generator),
    "encoder": (DUAL_ENCODERS, measure_dual_encoder),
    "image backbone": (IMAGE_BACKBONES, measure_image_backbone),
    "text backbone": (TEXT_BACKBONES, measure_text_backbone),
}
"""Kind of model -> its families and how they are measured."""


def measure(kind: str, name: str, folder: Path) -> Figures:
    """Write a tiny checkpoint of a family to `folder` and measure it."""
    families, measure_family = KINDS[kind]
    with mock.patch.object(runtime, "inference_dtype", return_value=torch.float32):
        return measure_family(families[name], folder)


def table(kind: str, figures: Sequence[Figures]) -> str:
    """Return the families of a kind as a Markdown table."""
    columns = ["loads", "equal", "batch", "stream", "sees", "trains"]
    columns = [c for c in columns if any(getattr(row, c) is not None for row in figures)]
    marks = {True: "yes", False: "**no**", None: "-"}
    lines = [f"| {kind} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in figures:
        cells = [marks[getattr(row, column)] for column in columns]
        if row.needs:
            cells[0] = f"needs {row.needs}"
        lines.append(f"| {row.models} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all families and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    path = parser.parse_args().json
    results: dict[str, dict[str, Figures]] = {}
    for kind, (families, _) in KINDS.items():
        results[kind] = {}
        for name in families:
            with tempfile.TemporaryDirectory() as folder:
                results[kind][name] = measure(kind, name, Path(folder) / name)
        print(f"\n{table(kind, list(results[kind].values()))}")
    rows = {kind: {name: asdict(f) for name, f in group.items()} for kind, group in results.items()}
    write_json(rows, path)


def read_results(path: Path = RESULTS) -> dict[str, list[Figures]]:
    """Return the figures that `main` wrote, by kind."""
    rows = json.loads(path.read_text())
    return {kind: [Figures(**row) for row in group.values()] for kind, group in rows.items()}


if __name__ == "__main__":
    main()
