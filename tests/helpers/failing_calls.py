"""Make system calls of this process fail from now on, as on a full or failing disk.

Linux (x86-64 or ARM) with seccomp: the kernel refuses the calls, for SQLite and Faiss as for
Python. Nothing can be undone, so it is for a process of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

_NUMBERS = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "fcntl": 72, "fsync": 74, "fdatasync": 75, "ftruncate": 77,
        "openat": 257, "fallocate": 285,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "fcntl": 25, "fsync": 82, "fdatasync": 83, "ftruncate": 46,
        "openat": 56, "fallocate": 47,
    },
}  # fmt: skip
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _ERRNO, _TSYNC = 0x7FFF0000, 0x00050000, 1
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_STDERR = 2


@dataclass(frozen=True)
class Fault:
    """System calls that fail with an error number."""

    calls: tuple[str, ...]
    number: int


FAULTS = {
    "full": Fault(("write", "pwrite64", "fallocate"), errno.ENOSPC),
    "quota": Fault(("write", "pwrite64", "fallocate"), errno.EDQUOT),
    "failing": Fault(("fsync", "fdatasync"), errno.EIO),
    "unwritable": Fault(("write", "pwrite64"), errno.EIO),
    "no locks": Fault(("fcntl",), errno.ENOLCK),
}
"""Kinds of faults by name."""


def is_supported() -> bool:
    """Return whether this machine can run `fail`."""
    return sys.platform == "linux" and platform.machine() in _NUMBERS


def fail(fault: Fault) -> None:
    """Let the calls of `fault` fail in all threads, for as long as this process lives.

    Writes to standard output and standard error go on; of `fcntl` only locks fail.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("HBBI", *line) for line in _filter(fault))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    program = Program(len(code) // 8, code)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    seccomp = 317 if platform.machine() == "x86_64" else 277
    if libc.syscall(seccomp, 1, _TSYNC, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter(fault: Fault) -> list[tuple[int, int, int, int]]:
    """Return a filter as BPF: (operation, lines to skip if true, if false, operand)."""
    refuse = (_RETURN, 0, 0, _ERRNO | fault.number)
    allow = (_RETURN, 0, 0, _ALLOW)
    numbers = _NUMBERS[platform.machine()]
    lines = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[platform.machine()]), allow]
    for call in fault.calls:
        lines += [(_LOAD, 0, 0, 0), (_JUMP_EQUAL, 0, 4, numbers[call])]
        if call == "fcntl":  # its second argument: F_SETLK
            lines += [(_LOAD, 0, 0, 24), (_JUMP_EQUAL, 0, 1, 6)]
        else:  # the first argument is the file
            lines += [(_LOAD, 0, 0, 16), (_JUMP_GREATER, 0, 1, _STDERR)]
        lines += [refuse, allow]
    return [*lines, allow]
