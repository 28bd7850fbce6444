"""`ravlm edit`: a picture changed by an instruction, written to a file.

Whether the file can be written is found out before any work is done. Knows no editor.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ravlm.cli.command import KB, Command, Options, UsageError, argument
from ravlm.cli.output import Progress, note, print_hits, print_json
from ravlm.errors import InvalidInput
from ravlm.records import Edit

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP",
}  # fmt: skip
"""Ending of --out -> the format that is written."""
_OPAQUE = ("JPEG", "BMP")


def edit(options: Options) -> int:
    """`ravlm edit`: exit code 1 and no file where nothing was changed."""
    from ravlm import KnowledgeBase, RetrievalAugmentedVLM
    from ravlm.editing.auto import load_editor

    if options.picture == options.instruction == "-":
        raise UsageError(
            "The picture and the instruction can't both come from stdin; name a file for the picture."
        )
    form = _form(options.out)
    image = sys.stdin.buffer.read() if options.picture == "-" else options.picture
    instruction = (
        sys.stdin.readline().strip() if options.instruction == "-" else options.instruction
    )
    with Progress("steps") as progress, KnowledgeBase.open(options.kb) as kb:
        editor = load_editor(options.editor, options.segmenter, progress.show)
        model = RetrievalAugmentedVLM(kb, editor=editor)
        made = model.edit(image, instruction, options.k, seed=options.seed)
    done = made.region is not None
    if done:
        _write(made, Path(options.out), form)
    if options.json:
        print_json({"out": options.out if done else None} | made.to_dict())
    elif done:
        print(f"{made.understood}\nwritten to {options.out}")
        if made.evidence:
            print_hits(made.evidence)
    else:
        note(f"ravlm: {made.understood}")
    return 0 if done else 1


def _form(out: str) -> str:
    """The format that the file's name asks for. Raises InvalidInput where there is none, or nothing
    can be written."""
    path = Path(out)
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(
            f'--out is "{out}"; its name must end as a picture\'s does: {", ".join(FORMATS)}.'
        )
    if path.is_dir():
        raise InvalidInput(f'--out is "{out}", a folder; name a file.')
    try:
        handle, aside = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
    except OSError as error:
        raise InvalidInput(
            f'"{out}" can\'t be written: {error.strerror}; choose another place.'
        ) from None
    os.close(handle)
    os.unlink(aside)
    return FORMATS[path.suffix.lower()]


def _write(made: Edit, path: Path, form: str) -> None:
    """Write the picture with its colour profile; over white where the format knows no
    transparency."""
    from ravlm.data.images import load_image
    from ravlm.files import atomic_write

    profile = made.image.info.get("icc_profile") or b""
    image = load_image(made.image) if form in _OPAQUE else made.image
    options: dict[str, object] = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    if form != "BMP":
        options["icc_profile"] = (
            profile if profile[16:20] == b"RGB " else None
        )  # that of a CMYK original fits no more
    with atomic_write(path) as aside:
        image.save(aside, form, **options)


COMMANDS = {
    "edit": Command(
        "change a picture as an instruction says, steered by what is retrieved",
        edit,
        (
            KB,
            argument("picture", metavar="PICTURE", help="- reads it from stdin"),
            argument(
                "instruction",
                metavar="INSTRUCTION",
                help="in English or Chinese; - reads one line from stdin",
            ),
            argument(
                "--out",
                required=True,
                metavar="FILE",
                help="the picture to write: .png, .jpg, .webp ...",
            ),
            argument(
                "-k",
                type=int,
                default=8,
                metavar="N",
                help="pictures to take after (default 8; 0: none)",
            ),
            argument(
                "--editor",
                default="local",
                metavar="E",
                help="local (default), or a pipeline of diffusers: a folder or a hub name",
            ),
            argument(
                "--segmenter",
                default="starter",
                metavar="S",
                help="who finds regions for the local editor: starter (default), or CLIPSeg or OWL-ViT by name",
            ),
            argument(
                "--seed",
                type=int,
                default=0,
                metavar="N",
                help="for pipelines of diffusers (default 0)",
            ),
        ),
        """
        ravlm edit kb harbour.jpg "make the sky blue" --out blue.png
        ravlm edit kb harbour.jpg "make the sky like a sunset and the sea darker" --out evening.jpg
        ravlm edit kb harbour.jpg 将图片中的天空变成蓝色 --out blue.png
        """,
    ),
}
