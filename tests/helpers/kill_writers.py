"""Processes that write to a base and are killed at random moments, and what must hold afterwards.

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

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [f"{i}" for i in range(60)]
# Adds, replaces, removes, optimizes and compacts for ever; says each change after it was
# acknowledged.
WRITER = """
import random, sys
import numpy as np
from ravlm.knowledge.index import auto
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.kill_writers import vector_of
auto.MIN_ROWS = 5
seed, base = int(sys.argv[2]), KnowledgeBase.open(sys.argv[1])
rng = random.Random(seed)
for step in range(1000000):
    what = rng.choice(["add", "add", "add", "update", "remove", "optimize", "compact", "choose"])
    names = [f"{rng.randrange(60)}" for _ in range(rng.randrange(1, 20))]
    names = list(dict.fromkeys(names))
    print("begin", what, step, *names, flush=True)
    if what in ("add", "update"):
        rows = np.stack([vector_of(name, step) for name in names])
        base.add([Entry(n, None, (f"name {n} step {step}",), {"step": step}) for n in names], vectors={"text": rows})
    elif what == "remove":
        base.remove(names)
    elif what == "choose":
        base._backend.store.choose_index(rng.choice(["flat", "bytes", "hnsw"]), 0.9)
    else:
        getattr(base, what)()
    print("done", what, step, *names, flush=True)
"""
# Builds a base of texts; says after each batch how many entries were acknowledged.
BUILDER = """
import sys
from ravlm.knowledge.base import KnowledgeBase
from tests.helpers.fakes import FakeEncoder
from tests.helpers.kill_writers import entries_to_build
print("begin", flush=True)
told = lambda report: print("done", report.added + report.unchanged, flush=True)
KnowledgeBase.build(sys.argv[1], entries_to_build(), FakeEncoder(), told).close()
print("whole", flush=True)
"""


def vector_of(name: str, step: int) -> np.ndarray:
    """The vector that entry `name` was given in step `step`."""
    row = np.random.default_rng([int(name), step]).standard_normal(64)
    return row / np.linalg.norm(row)


def entries_to_build() -> list[Entry]:
    return [Entry(f"b{i}", None, (f"text {i}", f"more of {i}"), {"i": i}) for i in range(1500)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def killed(program: str, folder: Path, seed: int, longest: float) -> list[list[str]]:
    """Run a program, kill it at a random time after its first word, and return what it said: lines
    of words."""
    command = [sys.executable, "-c", program, str(folder), str(seed)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment(), cwd=REPOSITORY, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, longest))
        process.send_signal(signal.SIGKILL)
        said = [first, *process.stdout.readlines()]
    return [line.split() for line in said if line.endswith("\n")]


class Ledger:
    """What a base must hold: id to the step that stored it last, None where it was removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certain: dict[str, int | None] = {}
        self.died_in: Counter[str] = Counter()

    def live_and_die(self, seed: int) -> None:
        """One life of a writer; afterwards all it said was done is there, the step it died in whole
        or not at all."""
        said = killed(WRITER, self.folder, seed, 0.25)
        open_step: list[str] = []
        for word, what, step, *names in said:
            open_step = [what, step, *names] if word == "begin" else []
            if word == "done" and what in ("add", "update", "remove"):
                self.certain |= dict.fromkeys(names, int(step) if what != "remove" else None)
        self.died_in[open_step[0] if open_step else "between"] += 1
        self.check(open_step)

    def check(self, open_step: list[str]) -> None:
        with KnowledgeBase.open(self.folder) as base:
            report = base.verify()
            assert report.sound, str(report)
            found = {entry.id: entry for entry in base.get(NAMES)}
            assert base.count() == len(found)
            steps = {
                name: found[name].metadata["step"] if name in found else None for name in NAMES
            }
            if open_step and open_step[0] in ("add", "update", "remove"):
                what, step, *names = open_step
                after = {name: None if what == "remove" else int(step) for name in names}
                if all(steps[name] == now for name, now in after.items()):
                    self.certain |= after
            assert {name: steps[name] for name in self.certain} == self.certain
            for name, entry in found.items():
                hit = base.search(vector=vector_of(name, entry.metadata["step"]), k=1)[0]
                assert hit.entry == entry
                assert abs(hit.score - 1) < 5e-3


def interrupted_build(folder: Path, seed: int) -> int:
    """Build with a process that is killed again and again, until it is whole; returns how often it
    was killed."""
    expected, kills, acknowledged = entries_to_build(), 0, 0
    while True:
        said = killed(BUILDER, folder, seed + kills, 0.4)
        acknowledged = max([acknowledged, *(int(words[1]) for words in said if words[0] == "done")])
        if (folder / "store.sqlite").is_file() and (folder / "store.sqlite").stat().st_size:
            with KnowledgeBase.build(folder, [], FakeEncoder()) as base:
                assert base.count() >= acknowledged
                report = base.verify()
                assert report.sound, str(report)
                stored = base.get(entry.id for entry in expected)
                assert stored == expected[: len(stored)]
        if ["whole"] in said:
            assert stored == expected
            return kills
        kills += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    began, kills, builds, died = time.monotonic(), 0, 0, Counter[str]()
    while kills < given.kills:
        folder = work / f"build{kills}"
        now = interrupted_build(folder, 1000 + kills)
        kills, builds, died["build"] = kills + now, builds + 1, died["build"] + now
        shutil.rmtree(folder)
        KnowledgeBase.build(work / "kb", [], FakeEncoder()).close()
        ledger = Ledger(work / "kb")
        for life in range(min(10, given.kills - kills)):
            ledger.live_and_die(10_000 + kills + life)
        kills += sum(ledger.died_in.values())
        died += ledger.died_in
        shutil.rmtree(work / "kb")
        print(f"{kills} kills, all sound, {time.monotonic() - began:.0f} s", flush=True)
    shutil.rmtree(work)
    told = ", ".join(f"{count} in {what}" for what, count in died.most_common())
    print(f"{kills} kills: {told}; {builds} builds in the end whole")


if __name__ == "__main__":
    main()
