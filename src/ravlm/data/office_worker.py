"""The child process that converts DOCX, PPTX and HTML files to Markdown. `office` starts it.

markitdown parses untrusted files. Here it has limits of memory and processor time, and can be
killed. Files are read from disk only: no address in them is opened.
"""

from __future__ import annotations

import sys
import zipfile
from typing import Any

from ravlm.data.child_process import limit_cpu, limit_memory, read_message, write_message

MAX_EXPANDED_BYTES = 500_000_000
"""Size of the files in a document, which is a zip archive."""
MAX_CHARACTERS = 16_000_000
_ARCHIVES = (".docx", ".pptx")
_TOO_LARGE = f"it expands to more than {MAX_EXPANDED_BYTES:,} bytes."


def convert(converter: Any, path: str) -> str:
    """Return the Markdown of a file. Raises ValueError if it is too large."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_EXPANDED_BYTES:
                raise ValueError(_TOO_LARGE)
    elif path.lower().endswith(_ARCHIVES):  # markitdown would take its bytes for text
        raise ValueError("it is damaged, or not of the type that its name says.")
    text: str = converter.convert_local(path).text_content
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read.")
    return text


def main(max_bytes: int, cpu_seconds: int) -> None:
    """Answer requests until stdin ends."""
    requests, results = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # libraries may print; stdout is for answers
    from markitdown import MarkItDown

    converter = MarkItDown(enable_plugins=False)
    limit_memory(max_bytes)
    while (message := read_message(requests)) is not None:
        limit_cpu(cpu_seconds)
        text, header = "", {}
        try:
            text = convert(converter, message[0]["path"])
        except BaseException as error:  # each of the parsers has errors of its own
            lines = str(error).strip().splitlines()
            header = {"error": (lines[-1] if lines else type(error).__name__)[:300]}
        write_message(results, header, text.encode("utf-8", "replace"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
