"""Speed and memory of reading documents, next to the bare libraries on the same pages.

    python -m benchmarks.document_speed PDF... [--ocr PAGES] [--memory PAGES] [--build PAGES...]
        [--json FILE]

Text: pages per second of `PdfReader`, which gives blocks and lines in reading order from a child
process, and of bare pypdfium2, which gives the text of each of its rectangles; in processor time
too, since other work on the machine counts for neither. OCR: seconds per page of the recognizer and
of bare rapidocr with the same threads, on pages rendered at 200 dpi. Memory: the largest size of
this process and of its child after each tenth of many pages, which must not grow. Build: the
largest size of a process that builds a base of a PDF with that many pages, with a fake encoder, so
that only reading, rendering, splitting and storing count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.reports import write_json
from ravlm.data.pdf import PdfReader
from ravlm.ocr.rapidocr import RapidOcrRecognizer

REPEATS, NUM_PAGES = 3, 500


def best_seconds(function: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float]:
    """Return wall-clock and processor time of the fastest run, the latter with ended children."""
    runs = []
    for _ in range(repeats):
        wall, used = time.perf_counter(), _processor_time()
        function()
        runs.append((time.perf_counter() - wall, _processor_time() - used))
    return min(wall for wall, _ in runs), min(used for _, used in runs)


def _processor_time() -> float:
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in times)


def bare_text(paths: Sequence[Path]) -> int:
    """Read the text and box of each rectangle with pypdfium2; return the number of pages."""
    import pypdfium2

    num_pages = 0
    for path in paths:
        with pypdfium2.PdfDocument(path) as document:
            for page in document:
                text = page.get_textpage()
                for index in range(text.count_rects()):
                    text.get_text_bounded(*text.get_rect(index))
                text.close()
                page.close()
                num_pages += 1
    return num_pages


def read_text(paths: Sequence[Path]) -> int:
    """Read the same pages as entries are; return their number."""
    num_pages = 0
    with PdfReader() as reader:
        for path in paths:
            num_pages += sum(1 for _ in reader.read_pages(path, reader.summary(path).num_pages))
    return num_pages


def text_figures(paths: Sequence[Path]) -> dict[str, float]:
    """Return pages per second, of wall-clock and of processor time.

    Files are read several times, so that the start of the process (0.1 s) does not count for much.
    """
    paths = list(paths) * -(-NUM_PAGES // bare_text(paths))
    num_pages = bare_text(paths)
    figures = {}
    for name, function in {"pypdfium2": bare_text, "ravlm": read_text}.items():
        wall, used = best_seconds(lambda function=function: function(paths))  # type: ignore[misc]
        figures[f"{name}, pages per second"] = num_pages / wall
        figures[f"{name}, pages per processor second"] = num_pages / used
    return figures


def ocr_figures(images: Sequence[Image.Image], repeats: int = 1) -> dict[str, float]:
    """Return processor seconds per page of bare rapidocr and of the recognizer, one thread each."""
    from rapidocr import RapidOCR

    recognizer = RapidOcrRecognizer(threads=1)
    bare = RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    arrays = [np.asarray(image.convert("RGB"))[:, :, ::-1] for image in images]
    warm_up = images[0].resize((320, 320))
    bare(np.asarray(warm_up)[:, :, ::-1])
    recognizer.recognize([warm_up])
    figures = {}
    runs: dict[str, Callable[[], Any]] = {
        "rapidocr": lambda: [bare(array) for array in arrays],
        "ravlm": lambda: recognizer.recognize(images),
    }
    for name, function in runs.items():
        seconds = best_seconds(function, repeats)[1]
        figures[f"{name}, processor seconds per page"] = seconds / len(images)
    return figures


def memory_figures(path: Path, num_pages: int) -> list[dict[str, float]]:
    """Return the sizes in MB after each tenth of `num_pages`, read from a file again and again."""
    figures = []
    with PdfReader() as reader:
        in_file = reader.summary(path).num_pages
        done, next_report = 0, num_pages / 10
        while done < num_pages:
            for _ in reader.read_pages(path, in_file):
                done += 1
                if done >= next_report:
                    next_report += num_pages / 10
                    assert reader._process is not None
                    child = Path(f"/proc/{reader._process.process.pid}/status").read_text()
                    figures.append(
                        {
                            "pages": done,
                            "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
                            "MB of the child": _status_mb(child),
                        }
                    )
    return figures


def build_figures(path: Path, numbers: Sequence[int]) -> list[dict[str, float]]:
    """Return the size in MB of a new process that builds a base, for each number of pages."""
    context = multiprocessing.get_context("spawn")
    figures = []
    for num_pages in numbers:
        with tempfile.TemporaryDirectory() as name:
            pdf = Path(name) / "pages.pdf"
            _write_repeated(path, pdf, num_pages)
            with context.Pool(1) as pool:
                figures.append(pool.apply(_build, (pdf, Path(name) / "kb")))
    return figures


def _write_repeated(path: Path, target: Path, num_pages: int) -> None:
    """Write a PDF of `num_pages` that repeats the pages of another one."""
    import pypdfium2

    with pypdfium2.PdfDocument(path) as source, pypdfium2.PdfDocument.new() as copy:
        for page in range(num_pages):
            copy.import_pages(source, [page % len(source)])
        copy.save(target)


def _build(pdf: Path, folder: Path) -> dict[str, float]:
    from ravlm import KnowledgeBase, read_entries
    from tests.helpers.fakes import FakeEncoder

    with KnowledgeBase.build(folder, read_entries(pdf), encoder=FakeEncoder()) as kb:
        num_pages = kb.count()
    return {
        "pages": num_pages,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "MB of the children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3,
    }


def _status_mb(status: str) -> float:
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1e3


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PDF")
    parser.add_argument("--ocr", type=int, default=0, metavar="PAGES")
    parser.add_argument("--memory", type=int, default=0, metavar="PAGES")
    parser.add_argument("--build", type=int, nargs="*", default=(), metavar="PAGES")
    parser.add_argument("--no-text", action="store_true", help="leave out the speed of text")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if not options.no_text:
        figures["text"] = text_figures(options.paths)
    if options.ocr:
        with PdfReader() as reader:
            path = options.paths[0]
            pages = range(1, min(options.ocr, reader.summary(path).num_pages) + 1)
            images = [reader.render(f"{path}#page={page}") for page in pages]
        figures["ocr"] = ocr_figures(images)
    if options.memory:
        figures["memory"] = memory_figures(options.paths[0], options.memory)
    if options.build:
        figures["build"] = build_figures(options.paths[0], options.build)
    for name, values in figures.items():
        print(name, values)
    if options.json:
        write_json(figures, options.json)


if __name__ == "__main__":
    main()
