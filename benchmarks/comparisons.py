"""Measure what retrieval brings on real images.

    python -m benchmarks.comparisons --data DATA [--only NAME ...] [--json benchmarks/results]

Runs `compare` on captions (flickr8k dev; the base has its train photos), knowledge questions
(grocery products, butterflies, transformed images of flags) and retrieval (flickr8k dev), with
sweeps over k, size and noise. `--json FOLDER` writes each report to compare-NAME.json, `--pages
FOLDER` writes the HTML reports, `--limit` uses fewer examples. After the first run it prints the
overhead of `compare` over the bare model."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks.data import DATA, photos
from benchmarks.question_sets import SETS, Item
from ravlm import KnowledgeBase, RetrievalAugmentedVLM, compare
from ravlm.evaluation.report import Report
from ravlm.tasks import VQA, Captioning, Retrieval, Task

ARMS = ["closed-book", "retrieved", "random", "oracle", "copy", "majority"]
SWEEPS = [
    f"retrieved@{setting}"
    for setting in ("k=1", "k=8", "size=0.1", "size=0.3", "noise=0.25", "noise=0.5")
]


def questions(items: list[Item], path: Path) -> Path:
    """Write a task file; images in memory are saved next to it, each once."""
    saved: dict[int, str] = {}
    with open(path, "w", encoding="utf-8") as file:
        for item in items:
            image = item.image
            if isinstance(image, Image.Image):
                if id(image) not in saved:
                    saved[id(image)] = str(path.with_name(f"{path.stem}-{len(saved)}.png"))
                    image.save(saved[id(image)])
                image = saved[id(image)]
            row = {
                "image": str(Path(str(image)).resolve()),
                "question": item.question,
                "answers": list(item.answers),
                "entity": item.entity,
            }
            file.write(json.dumps(row) + "\n")
    return path


def captioning(
    data: Path, folder: Path, limit: int | None
) -> tuple[Task, KnowledgeBase, list[str]]:
    task = Captioning(data / "flickr8k" / "metadata.jsonl", where='split = "dev"', limit=limit)
    return (
        task,
        KnowledgeBase.build(folder / "flickr8k-train", photos(data, "train")),
        ARMS + SWEEPS,
    )


def retrieval(data: Path, folder: Path, limit: int | None) -> tuple[Task, KnowledgeBase, list[str]]:
    task = Retrieval(data / "flickr8k" / "metadata.jsonl", where='split = "dev"', limit=limit)
    return (
        task,
        KnowledgeBase.build(folder / "flickr8k-dev", photos(data, "dev")),
        ["retrieved", "random"],
    )


def vqa(name: str) -> Callable[[Path, Path, int | None], tuple[Task, KnowledgeBase, list[str]]]:
    def make(data: Path, folder: Path, limit: int | None) -> tuple[Task, KnowledgeBase, list[str]]:
        dataset = SETS[name](data)
        task = VQA(questions(dataset.queries, folder / f"{name}.jsonl"), limit=limit)
        return task, KnowledgeBase.build(folder / name, dataset.entries), ARMS + SWEEPS

    return make


RUNS = {
    "captioning": captioning,
    **{name: vqa(name) for name in SETS},
    "retrieval": retrieval,
}


def overhead(task: Task, model: RetrievalAugmentedVLM) -> dict[str, float]:
    """Return the seconds of the bare model, and of `compare` with one arm, on the same examples."""
    examples = task.examples()
    task.predict(model, examples[:8])
    start_time = time.perf_counter()
    for start in range(0, len(examples), 32):
        task.predict(model, examples[start : start + 32])
    bare = time.perf_counter() - start_time
    start_time = time.perf_counter()
    compare(task, model, ["retrieved"], check_contamination=False)
    total = time.perf_counter() - start_time
    return {
        "bare": round(bare, 2),
        "compare": round(total, 2),
        "overhead": round(total / bare - 1, 3),
    }


def anonymous(report: Report, data: Path, name: str) -> Report:
    """Return the report without the paths of this machine."""
    source = str(report.about["source"]).replace(str(data), "DATA")
    source = source if source.startswith("DATA") else Path(source).name
    command = f"python -m benchmarks.comparisons --data DATA --only {name}"
    return replace(
        report,
        about={
            "command": command,
            **report.about,
            "source": source,
            "base": Path(report.about["base"]).name,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument(
        "--bases", type=Path, help="folder to keep the bases in; default: build them each time"
    )
    parser.add_argument("--json", type=Path, help="folder for the JSON reports")
    parser.add_argument("--pages", type=Path, help="folder for the HTML reports")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.bases or Path(temporary)
        folder.mkdir(exist_ok=True)
        for name in options.only:
            task, kb, arms = RUNS[name](options.data, folder, options.limit)
            with kb:
                model = RetrievalAugmentedVLM(kb)
                report = anonymous(
                    compare(task, model, arms, cache=folder / "predictions"), options.data, name
                )
                print(f"\n# {name}\n{report}", flush=True)
                if options.json:
                    options.json.mkdir(parents=True, exist_ok=True)
                    path = options.json / f"compare-{name}.json"
                    path.write_text(report.to_json() + "\n", encoding="utf-8")
                if options.pages:
                    options.pages.mkdir(exist_ok=True)
                    report.to_html(options.pages / f"{name}.html")
                if name == options.only[0]:
                    print(json.dumps({"overhead": overhead(task, model)}))


if __name__ == "__main__":
    main()
