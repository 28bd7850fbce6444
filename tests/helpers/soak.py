"""Three processes that use one base at once with all verbs, until they are killed.

`python -m tests.helpers.soak --lives 100` is the long series (part of `make soak`); the test suite
runs a short one. In each life one of the processes may lose its disk: from a random moment on its
writes, syncs or locks fail (see failing_calls). Then all are killed, and the base must be sound and
hold each change that was acknowledged. Linux only: the processes are forked."""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ravlm.errors import Mismatch, RavlmError
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import auto
from ravlm.knowledge.local import readers
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.failing_calls import FAULTS, fail, is_supported
from tests.helpers.fakes import FakeEncoder

PROCESSES = 3
NAMES = 30
"""Ids of each process; no other process changes them."""
WAIT_SECONDS = 0.5
"""How long the processes wait for each other's locks."""
IMPORTED = -1
"""The step under which entries of the export are stored."""
ENCODERS = {"fake": FakeEncoder(), "other": FakeEncoder("other", seed=3)}
OPTIONS = {
    "dense": SearchOptions(),
    "keyword": SearchOptions(method="keyword"),
    "hybrid": SearchOptions(method="hybrid", rerank="exact"),
}

State = dict[str, int | None]
"""Id -> step that stored it, None if it is not stored."""


def picture(name: str, step: int) -> bytes:
    """Return an image that only this step of this entry has."""
    shade = random.Random(f"{name} {step}").randbytes(48)
    file = io.BytesIO()
    Image.frombytes("RGB", (4, 4), shade).save(file, "PNG")
    return file.getvalue()


def entry(name: str, step: int) -> Entry:
    """Return entry `name` as step `step` stores it; every third one has an image."""
    image = picture(name, step) if step % 3 == 0 else None
    return Entry(name, image, (f"text {step} of {name}", "red and blue"), {"step": step})


def open_base(folder: Path) -> KnowledgeBase:
    """Open the base with the encoder that it has now."""
    with KnowledgeBase.open(folder) as base:
        encoder = ENCODERS[base.info().encoder]
    return KnowledgeBase.open(folder, encoder)


class Worker:
    """One process: it changes its own entries, reads all, and prints what it does."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        self.folder = folder
        self.number = number
        self.random = random.Random(seed)
        self.step = seed * 1000
        self.base = open_base(folder)
        self.verbs: dict[str, tuple[int, Callable[[list[str]], object]]] = {
            "add": (8, self._add),
            "remove": (3, lambda names: self.base.remove(names)),
            "import": (1, lambda names: self.base.import_from(self.export)),
            "search": (4, lambda names: self._search()),
            "read": (2, lambda names: self._read(names)),
            "verify": (1, lambda names: self._verify()),
            "optimize": (2, lambda names: self.base.optimize()),
            "compact": (1, lambda names: self.base.compact()),
            "tune": (1, lambda names: self.base.tune(recall=0.5)),
            "export": (1, lambda names: self._export()),
            "reencode": (1, lambda names: self._reencode()),
            "reopen": (1, lambda names: self._reopen()),
        }

    @property
    def export(self) -> Path:
        """An export of entries of this process."""
        return self.folder.parent / f"export{self.number}"

    def run(self) -> None:
        """Work until killed. Anything but an error of ravlm ends the process with exit code 3."""
        names = list(self.verbs)
        weights = [weight for weight, _ in self.verbs.values()]
        while True:
            self.step += 1
            (verb,) = self.random.choices(names, weights)
            ids = self._ids(verb)
            print("begin", verb, self.step, *ids, flush=True)
            try:
                self.verbs[verb][1](ids)
            except RavlmError as error:
                print("refused", type(error).__name__, str(error).replace("\n", " "), flush=True)
                if isinstance(error, Mismatch):
                    self._reopen_if_possible()
            else:
                print("done", flush=True)

    def _ids(self, verb: str) -> list[str]:
        if verb == "import":
            return imported_names(self.number)
        numbers = self.random.sample(range(NAMES), self.random.randrange(1, 12))
        return [f"{self.number}-{i}" for i in numbers]

    def _reopen(self) -> None:
        self.base.close()
        self.base = open_base(self.folder)

    def _reopen_if_possible(self) -> None:
        try:
            self._reopen()
        except RavlmError as error:
            print("refused", type(error).__name__, flush=True)

    def _add(self, names: list[str]) -> None:
        report = self.base.add([entry(name, self.step) for name in names])
        assert report.added + report.updated == len(names), report

    def _search(self) -> None:
        options = OPTIONS[self.random.choice(list(OPTIONS))]
        where = self.random.choice([None, "step >= 0"])
        hits = self.base.search(text="text red", k=20, where=where, options=options)
        assert len({hit.entry.id for hit in hits}) == len(hits)

    def _read(self, names: list[str]) -> None:
        page = self.base.page(50)
        assert len(self.base.get(names)) <= len(names)
        assert len(page.entries) <= 50
        info = self.base.info()
        assert info.entries >= 0
        assert info.bytes

    def _verify(self) -> None:
        report = self.base.verify(sample=4)
        assert report.sound, str(report)

    def _export(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as parent:
            self.base.export_to(Path(parent) / "export")

    def _reencode(self) -> None:
        self.base.reencode(ENCODERS[self.random.choice(list(ENCODERS))])


def imported_names(number: int) -> list[str]:
    return [f"{number}-i{i}" for i in range(4)]


@dataclass
class Ledger:
    """What the base must hold of the entries of one process."""

    acknowledged: State = field(default_factory=dict)
    uncertain: list[State] = field(default_factory=list)
    """Changes that were refused, or begun when the process was killed: all of one or nothing."""

    def read(self, log: Path) -> Counter[str]:
        """Take over what a process printed. Return what ended in which way."""
        outcomes: Counter[str] = Counter()
        change: State = {}
        verb = ""
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        for event, *arguments in map(str.split, lines):
            if event == "begin":
                verb, step, *names = arguments
                self._add_uncertain(change)
                change = change_of(verb, int(step), names)
            elif event == "done":
                self.acknowledged |= change
                for other in self.uncertain:  # an earlier change can't come back
                    for name in change:
                        other.pop(name, None)
                change = {}
                outcomes[verb] += 1
            elif event == "refused":
                outcomes[f"{verb}: {arguments[0]}"] += 1
            else:
                raise AssertionError(log.read_text())
        self._add_uncertain(change)
        return outcomes

    def _add_uncertain(self, change: State) -> None:
        if change:
            self.uncertain.append(change)

    def check(self, stored: State) -> None:
        """Compare with what is stored, and take it over."""
        for name in self.acknowledged.keys() | stored.keys():
            allowed = {self.acknowledged.get(name)}
            allowed |= {change[name] for change in self.uncertain if name in change}
            assert stored.get(name) in allowed, (name, stored.get(name), allowed)
        if len(self.uncertain) == 1:
            (change,) = self.uncertain
            is_new = {
                stored.get(name) == step
                for name, step in change.items()
                if step != self.acknowledged.get(name)
            }
            assert len(is_new) < 2, ("half of a change", change, stored)
        self.acknowledged = dict(stored)
        self.uncertain = []


def change_of(verb: str, step: int, names: list[str]) -> State:
    """Return what a verb changes."""
    steps = {"add": step, "remove": None, "import": IMPORTED}
    return dict.fromkeys(names, steps[verb]) if verb in steps else {}


class Soak:
    """A base, and the ledgers of the processes that use it."""

    def __init__(self, parent: Path, seed: int, max_seconds: float) -> None:
        self.folder = parent / "kb"
        self.max_seconds = max_seconds
        self.random = random.Random(seed)
        self.ledgers = [Ledger() for _ in range(PROCESSES)]
        self.outcomes: Counter[str] = Counter()
        self.lives = 0
        KnowledgeBase.build(self.folder, [], ENCODERS["fake"]).close()
        for number in range(PROCESSES):
            entries = [entry(name, IMPORTED) for name in imported_names(number)]
            with KnowledgeBase.build(parent / "source", entries, ENCODERS["fake"]) as source:
                source.export_to(parent / f"export{number}")
            shutil.rmtree(parent / "source")

    def live(self) -> None:
        """Run all processes, let a disk fail, kill them, and check the base."""
        self.lives += 1
        kinds = [None, *FAULTS] if is_supported() else [None]
        fault = self.random.choice(kinds)
        seconds = self.random.uniform(0.1, self.max_seconds)
        processes = []
        for number in range(PROCESSES):
            log = self.folder.parent / f"log{number}"
            seed = self.random.randrange(1, 2**20)
            delay = self.random.uniform(0, seconds) if fault and number == 0 else None
            processes.append(self._fork(number, seed, log, fault, delay))
        time.sleep(seconds)
        for pid in self.random.sample(processes, len(processes)):
            time.sleep(self.random.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
        statuses = [os.waitpid(pid, 0)[1] for pid in processes]
        for number, status in enumerate(statuses):
            log = self.folder.parent / f"log{number}"
            assert os.WIFSIGNALED(status), f"{fault}: process {number} failed:\n{log.read_text()}"
            self.outcomes += self.ledgers[number].read(log)
        self.outcomes[f"disk: {fault}"] += fault is not None
        self._check()

    def _fork(
        self, number: int, seed: int, log: Path, fault: str | None, delay: float | None
    ) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stdout.fileno())
            worker = Worker(self.folder, number, seed)
            if delay is not None and fault is not None:
                threading.Timer(delay, fail, [FAULTS[fault]]).start()
            worker.run()
        except BaseException:
            print(traceback.format_exc(), flush=True)
            os._exit(3)
        raise AssertionError("unreachable")

    def _check(self) -> None:
        with open_base(self.folder) as base:
            report = base.verify(sample=500)
            assert report.sound, str(report)
            entries = base.page(1000).entries
            assert base.count() == len(entries)
            for stored in entries:
                assert stored.text == f"text {stored.metadata['step']} of {stored.id}"
                expected = entry(stored.id, stored.metadata["step"])
                image = stored.image and Path(str(stored.image)).read_bytes()
                assert image == expected.image, stored.id
        for number, ledger in enumerate(self.ledgers):
            ledger.check(
                {
                    stored.id: stored.metadata["step"]
                    for stored in entries
                    if stored.id.startswith(f"{number}-")
                }
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lives", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.5, help="longest life")
    options = parser.parse_args()
    readers.WAIT_SECONDS = WAIT_SECONDS
    auto.MIN_ROWS = 5
    parent = Path(tempfile.mkdtemp())
    soak = Soak(parent, options.seed, options.seconds)
    start = time.monotonic()
    while soak.lives < options.lives:
        soak.live()
        if soak.lives % 10 == 0:
            print(f"{soak.lives} lives, all sound, {time.monotonic() - start:.0f} s", flush=True)
    shutil.rmtree(parent)
    print(f"{soak.lives} lives of {PROCESSES} processes:")
    for outcome, count in soak.outcomes.most_common():
        print(f"{count:8,} {outcome}")


if __name__ == "__main__":
    main()
