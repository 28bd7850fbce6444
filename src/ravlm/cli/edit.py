"""`ravlm edit`: edit an image by an instruction and write it to a file.

Whether the file can be written is checked before any work is done.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ravlm.cli import stdin
from ravlm.cli.command import KB, Command, Options, UsageError, argument
from ravlm.cli.output import Progress, note, print_hits, print_json
from ravlm.errors import InvalidInput
from ravlm.records import Edit

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Suffix of --out -> the format that is written."""
_OPAQUE = ("JPEG", "BMP")


def edit(options: Options) -> int:
    """Run `ravlm edit`. Return 1, and write no file, if nothing was changed."""
    from ravlm import KnowledgeBase, RetrievalAugmentedVLM
    from ravlm.editing.auto import load_editor

    if options.image == options.instruction == "-":
        raise UsageError(
            "The image and the instruction can't both come from stdin. Name a file for the image."
        )
    image_format = _check_output(options.out)
    image = sys.stdin.buffer.read() if options.image == "-" else options.image
    instruction = options.instruction
    if instruction == "-":
        instruction = (stdin.read_line() or "").strip()
    with Progress("steps") as progress, KnowledgeBase.open(options.kb) as kb:
        editor = load_editor(options.editor, options.segmenter, progress.show)
        model = RetrievalAugmentedVLM(kb, editor=editor)
        result = model.edit(image, instruction, k=options.k, seed=options.seed)
    changed = result.region is not None
    if changed:
        _write(result, Path(options.out), image_format)
    _report(result, options)
    return 0 if changed else 1


def _report(result: Edit, options: Options) -> None:
    changed = result.region is not None
    if options.json:
        print_json({"out": options.out if changed else None} | result.to_dict())
    elif changed:
        print(f"{result.understood}\nwritten to {options.out}")
        if result.evidence:
            print_hits(result.evidence)
    else:
        note(f"ravlm: {result.understood}")


def _check_output(out: str) -> str:
    """Return the image format of a file name.

    Raises InvalidInput for an unknown suffix, or if the file can't be written.
    """
    path = Path(out)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInput(f'--out is "{out}"; allowed suffixes: {", ".join(FORMATS)}.')
    if path.is_dir():
        raise InvalidInput(f'--out is "{out}", which is a folder. Name a file.')
    try:
        handle, probe = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
    except OSError as error:
        raise InvalidInput(
            f'"{out}" can\'t be written: {error.strerror}. Choose another file.'
        ) from None
    os.close(handle)
    os.unlink(probe)
    return FORMATS[suffix]


def _write(result: Edit, path: Path, image_format: str) -> None:
    """Write the image with its color profile; over white if the format has no transparency."""
    from ravlm.data.images import load_image
    from ravlm.files import atomic_write

    profile = result.image.info.get("icc_profile") or b""
    image = load_image(result.image) if image_format in _OPAQUE else result.image
    options: dict[str, object] = {"quality": 95} if image_format in ("JPEG", "WEBP") else {}
    if image_format != "BMP":
        is_rgb = profile[16:20] == b"RGB "  # the profile of a CMYK original no longer fits
        options["icc_profile"] = profile if is_rgb else None
    with atomic_write(path) as temporary:
        image.save(temporary, image_format, **options)


COMMANDS = {
    "edit": Command(
        "edit an image by an instruction, steered by retrieved examples",
        edit,
        (
            KB,
            argument("image", metavar="IMAGE", help="file to edit; - reads stdin"),
            argument(
                "instruction",
                metavar="INSTRUCTION",
                help="in English or Chinese; - reads one line from stdin",
            ),
            argument(
                "--out",
                required=True,
                metavar="FILE",
                help="file to write: .png, .jpg, .webp, .tif or .bmp",
            ),
            argument(
                "-k",
                type=int,
                default=8,
                metavar="N",
                help="number of examples to retrieve (default 8; 0: none)",
            ),
            argument(
                "--editor",
                default="local",
                metavar="E",
                help="local (default), or a diffusers pipeline: a folder or a hub name",
            ),
            argument(
                "--segmenter",
                default="starter",
                metavar="S",
                help="finds regions for the local editor: starter (default), or a CLIPSeg, OWL-ViT "
                "or OWLv2 by folder or hub name",
            ),
            argument(
                "--seed",
                type=int,
                default=0,
                metavar="N",
                help="random seed of a diffusers pipeline (default 0)",
            ),
        ),
        """
        ravlm edit kb harbor.jpg "make the sky blue" --out blue.png
        ravlm edit kb harbor.jpg "make the sky like a sunset and the sea darker" --out evening.jpg
        ravlm edit kb harbor.jpg 将图片中的天空变成蓝色 --out blue.png
        """,
    ),
}
