"""Processes that write to a base and are killed at random moments, and the checks afterwards.

`python -m tests.helpers.kill_writers --kills 200` is the long series (`make soak`); the test suite
runs a short one."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder
from tests.helpers.multi_vector_fake import FakeMultiVectorEncoder

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [f"{i}" for i in range(60)]
STORING = ("add", "update", "remove")
"""Operations that change entries."""
WRITER_MAX_SECONDS = 0.25
BUILDER_MAX_SECONDS = 0.4
LIVES_PER_BASE = 10
# Adds, replaces, removes, optimizes and compacts forever; prints each change once acknowledged.
WRITER = """
import random, sys
import numpy as np
from ravlm.knowledge.index import auto, maxsim_index
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.kill_writers import vectors_of
auto.MIN_ROWS = maxsim_index.MIN_CELL_ROWS = 5
maxsim_index.CANDIDATES = 8
OPERATIONS = ["add", "add", "add", "update", "remove", "optimize", "compact", "choose"]
seed, base = int(sys.argv[2]), KnowledgeBase.open(sys.argv[1])
rng = random.Random(seed)
for step in range(1000000):
    operation = rng.choice(OPERATIONS)
    names = [f"{rng.randrange(60)}" for _ in range(rng.randrange(1, 20))]
    names = list(dict.fromkeys(names))
    print("begin", operation, step, *names, flush=True)
    if operation in ("add", "update"):
        rows = np.stack([vectors_of(base, name, step) for name in names])
        entries = [Entry(n, None, (f"name {n} step {step}",), {"step": step}) for n in names]
        base.add(entries, vectors={"text": rows})
    elif operation == "remove":
        base.remove(names)
    elif operation == "choose":
        kinds = ["flat", "bytes", "hnsw", "tokens-binary"]
        base._backend.store.choose_index(rng.choice(kinds), 0.9)
    else:
        getattr(base, operation)()
    print("done", operation, step, *names, flush=True)
"""
# Builds a base of texts; prints after each batch how many entries were acknowledged.
BUILDER = """
import sys
from ravlm.knowledge.base import KnowledgeBase
from tests.helpers.fakes import FakeEncoder
from tests.helpers.kill_writers import entries_to_build
print("begin", flush=True)
progress = lambda report: print("done", report.added + report.unchanged, flush=True)
KnowledgeBase.build(sys.argv[1], entries_to_build(), FakeEncoder(), progress).close()
print("complete", flush=True)
"""


def vector_of(name: str, step: int) -> np.ndarray:
    """Return the vector (64,) of entry `name` that step `step` adds."""
    row = np.random.default_rng([int(name), step]).standard_normal(64)
    return row / np.linalg.norm(row)


def vectors_of(base: KnowledgeBase, name: str, step: int) -> np.ndarray:
    """Return the vector (64,) of an entry; (3, 64) for a base of a multi-vector encoder."""
    vector = vector_of(name, step)
    if not base._backend.identity.is_multi_vector:
        return vector
    return np.stack([vector, np.roll(vector, 1), np.roll(vector, 2)])


def entries_to_build() -> list[Entry]:
    return [Entry(f"b{i}", None, (f"text {i}", f"more of {i}"), {"i": i}) for i in range(1500)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def run_and_kill(program: str, folder: Path, seed: int, max_seconds: float) -> list[list[str]]:
    """Run a program, kill it at a random time after its first line, and return its lines of
    words."""
    command = [sys.executable, "-c", program, str(folder), str(seed)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment(), cwd=REPOSITORY, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, max_seconds))
        process.send_signal(signal.SIGKILL)
        lines = [first, *process.stdout.readlines()]
    return [line.split() for line in lines if line.endswith("\n")]


class Ledger:
    """What a base must hold: id to the step that last stored it, None if it was removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acknowledged: dict[str, int | None] = {}
        self.killed_in: Counter[str] = Counter()

    def live_and_die(self, seed: int) -> None:
        """Run and kill one writer.

        Check that all acknowledged changes are stored, and the interrupted one completely or not at
        all.
        """
        lines = run_and_kill(WRITER, self.folder, seed, WRITER_MAX_SECONDS)
        open_step: list[str] = []
        for word, operation, step, *names in lines:
            open_step = [operation, step, *names] if word == "begin" else []
            if word == "done" and operation in STORING:
                stored_step = int(step) if operation != "remove" else None
                self.acknowledged |= dict.fromkeys(names, stored_step)
        self.killed_in[open_step[0] if open_step else "between"] += 1
        self.check(open_step)

    def check(self, open_step: list[str]) -> None:
        with KnowledgeBase.open(self.folder) as base:
            report = base.verify()
            assert report.sound, str(report)
            entries = {entry.id: entry for entry in base.get(NAMES)}
            assert base.count() == len(entries)
            steps = {
                name: entries[name].metadata["step"] if name in entries else None for name in NAMES
            }
            if open_step and open_step[0] in STORING:
                operation, step, *names = open_step
                after = {name: None if operation == "remove" else int(step) for name in names}
                if all(steps[name] == stored_step for name, stored_step in after.items()):
                    self.acknowledged |= after
            assert {name: steps[name] for name in self.acknowledged} == self.acknowledged
            for name, entry in entries.items():
                hit = base.search(vector=vectors_of(base, name, entry.metadata["step"]), k=1)[0]
                assert hit.entry == entry
                assert abs(hit.score - 1) < 5e-3


def interrupted_build(folder: Path, seed: int) -> int:
    """Build in processes that are killed until one completes. Return the number of kills."""
    expected = entries_to_build()
    kills = acknowledged = 0
    while True:
        lines = run_and_kill(BUILDER, folder, seed + kills, BUILDER_MAX_SECONDS)
        counts = [int(words[1]) for words in lines if words[0] == "done"]
        acknowledged = max([acknowledged, *counts])
        if (folder / "store.sqlite").is_file() and (folder / "store.sqlite").stat().st_size:
            with KnowledgeBase.build(folder, [], FakeEncoder()) as base:
                assert base.count() >= acknowledged
                report = base.verify()
                assert report.sound, str(report)
                stored = base.get(entry.id for entry in expected)
                assert stored == expected[: len(stored)]
        if ["complete"] in lines:
            assert stored == expected
            return kills
        kills += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    max_kills = parser.parse_args().kills
    folder = Path(tempfile.mkdtemp())
    start = time.monotonic()
    kills = num_builds = 0
    killed_in: Counter[str] = Counter()
    while kills < max_kills:
        build_kills = interrupted_build(folder / "build", 1000 + kills)
        shutil.rmtree(folder / "build")
        kills += build_kills
        num_builds += 1
        killed_in["build"] += build_kills
        encoder = FakeMultiVectorEncoder() if num_builds % 2 else FakeEncoder()
        KnowledgeBase.build(folder / "kb", [], encoder).close()
        ledger = Ledger(folder / "kb")
        for life in range(min(LIVES_PER_BASE, max_kills - kills)):
            ledger.live_and_die(10_000 + kills + life)
        shutil.rmtree(folder / "kb")
        kills += sum(ledger.killed_in.values())
        killed_in += ledger.killed_in
        print(f"{kills} kills, all sound, {time.monotonic() - start:.0f} s", flush=True)
    shutil.rmtree(folder)
    summary = ", ".join(f"{count} in {operation}" for operation, count in killed_in.most_common())
    print(f"{kills} kills: {summary}; {num_builds} builds completed")


if __name__ == "__main__":
    main()
