"""Temporary folders belong to the process that holds their lock; those of the dead are removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ravlm import files
from ravlm.errors import DiskError
from ravlm.files import atomic_write, remove_leftovers, temporary_folder, try_lock

# writes half of a file, then waits until it is killed
WRITER = """
import sys, time
from pathlib import Path
from ravlm.files import atomic_write
with atomic_write(Path(sys.argv[1]) / "model.bin") as path:
    path.write_bytes(b"half")
    print(path.parent, flush=True)
    time.sleep(600)
"""


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    """Leftovers stayed for a day, and those outside of a base forever."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with temporary_folder(tmp_path) as live, atomic_write(tmp_path / "a.txt") as path:
            path.write_text("a")
            remove_leftovers(tmp_path)
            assert live.is_dir()
            assert (folder / "model.bin").read_bytes() == b"half"
        process.kill()
        process.wait()
    assert folder.is_dir()
    with atomic_write(tmp_path / "model.bin") as path:
        path.write_bytes(b"complete")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "model.bin"]


def test_folders_without_a_lock_are_judged_by_age(tmp_path: Path) -> None:
    """A process that was killed before it took the lock, or an earlier version, left them."""
    for name, days in {".aside-new": 0, ".aside-old": 2, "aside-old": 2}.items():
        (tmp_path / name).mkdir()
        time = (tmp_path / name).stat().st_mtime - days * files.STALE_SECONDS
        os.utime(tmp_path / name, (time, time))
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".aside-new", "aside-old"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """In a folder that others write to, its name may lead anywhere."""
    target = tmp_path / "precious"
    target.mkdir()
    (target / files._LOCK).touch()
    (tmp_path / ".aside-link").symlink_to(target)
    remove_leftovers(tmp_path)
    assert target.is_dir()
    remove_leftovers(tmp_path / "missing")


def test_a_folder_that_another_process_removed_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its creation and its lock it looks like a leftover of a killed process."""
    made: list[str] = []
    original = files.tempfile.mkdtemp

    def removed_once(**options: object) -> str:
        made.append(original(**options))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(files.tempfile, "mkdtemp", removed_once)
    with temporary_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert 1 <= len(made) <= 2


def test_a_lock_excludes_other_handles_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with try_lock(path) as first, try_lock(path) as second, try_lock(path) as third:
        assert (first, second, third) == (True, False, False)
    with try_lock(path) as again:
        assert again is True


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is still written; leftovers are judged by age."""
    filelock = pytest.importorskip("filelock")

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with atomic_write(tmp_path / "a.txt") as path:
        path.write_text("a")
        remove_leftovers(tmp_path)
    with try_lock(tmp_path / "lock") as is_locked:
        assert is_locked is None
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize(("number", "message"), [(28, "is full"), (5, "A disk failed")])
def test_a_full_disk_while_weights_are_written(number: int, message: str, tmp_path: Path) -> None:
    """safetensors raises an error of its own, which ended in a traceback."""
    error = f"Error while serializing: I/O error: some words (os error {number})"
    with pytest.raises(DiskError, match=message), atomic_write(tmp_path / "model.safetensors"):
        raise SafetensorError(error)
    with pytest.raises(SafetensorError, match="header"), atomic_write(tmp_path / "model"):
        raise SafetensorError("invalid header")
    assert list(tmp_path.iterdir()) == []
