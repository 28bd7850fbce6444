"""Images of a base: where they are stored, and how they are opened for the encoder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ravlm.data.images import image_bytes, is_address, load_image
from ravlm.data.pdf import file_sha256, image_file, is_page, page_path, split_page_path
from ravlm.encoders.base import Encoder
from ravlm.files import atomic_write, remove_leftovers
from ravlm.knowledge.records import EntryRow
from ravlm.records import DocumentBytes, ImageSource, PdfPage
from ravlm.regions import IMAGE_KINDS, Region

FOLDER = "pictures"
"""Folder within the base for images that came as bytes, named by their content."""
_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}
_MAX_MAGNIFICATION = 8
"""Images are loaded for their regions at most at this many times the encoder's input size."""
_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z]+)?")
"""File name of an image, or of a PDF whose pages are images, in the base."""


@dataclass(frozen=True)
class LocatedImage:
    """An image that was read, and the reference under which the store finds it again."""

    reference: str
    """Absolute path, address, or path within the base."""
    hash: str
    """SHA-256 of the encoded image."""
    data: bytes
    embedded: bool
    """Whether `data` must be written into the base because it has no file of its own."""


def open_image(source: ImageSource, encoder: Encoder) -> Image.Image:
    """Decode an image and shrink it to the encoder's input size, so that a batch fits in memory.

    Raises NotFound or BrokenData.
    """
    return encoder.prepare(load_image(source, edge=encoder.image_size))


def open_images(
    source: ImageSource, regions: Sequence[Region], encoder: Encoder
) -> tuple[Image.Image, dict[int, Image.Image]]:
    """Return an image as `open_image` does, and those of its regions that are parts of it: tiles
    and objects, by their number, from 1.

    Raises NotFound or BrokenData.
    """
    boxes = {
        number: region.box
        for number, region in enumerate(regions, 1)
        if region.kind in IMAGE_KINDS and region.box is not None
    }
    if not boxes:
        return open_image(source, encoder), {}
    sides = [side for box in boxes.values() for side in (box[2] - box[0], box[3] - box[1]) if side]
    magnification = min(1 / min(sides, default=1.0), _MAX_MAGNIFICATION)
    image = load_image(source, edge=int(magnification * encoder.image_size))
    tiles = {}
    for number, box in boxes.items():
        left, top, right, bottom = (
            round(share * side) for share, side in zip(box, image.size * 2, strict=True)
        )
        tile = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        tiles[number] = encoder.prepare(tile)
    return encoder.prepare(image), tiles


def locate_image(source: ImageSource, can_embed: bool = True) -> LocatedImage:
    """Read an image and return where the store finds it. Raises NotFound or BrokenData.

    A file among the embedded images of a base, this one or another, is embedded like bytes: its
    path would be wrong once that base is moved, or has removed its entry. Without `can_embed` the
    store keeps paths only. The pages of a PDF share its file, and are not rendered here.
    """
    if is_page(source):
        return _locate_page(source, can_embed)
    data = image_bytes(source)
    sha256 = hashlib.sha256(data).hexdigest()
    if is_address(source):
        return LocatedImage(str(source), sha256, data, embedded=False)
    if isinstance(source, str | os.PathLike):
        path = os.path.abspath(source)
        embedded_path = _embedded_path(path)
        if not can_embed or embedded_path is None or sha256 not in embedded_path:
            return LocatedImage(path, sha256, data, embedded=False)
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if data.startswith(magic)), "")
    return LocatedImage(f"{FOLDER}/{sha256[:2]}/{sha256}{suffix}", sha256, data, embedded=True)


def _locate_page(source: ImageSource, can_embed: bool) -> LocatedImage:
    if isinstance(source, PdfPage):
        document, page = source.document, source.page
        return _embedded_page(document.sha256, page, document.data)
    location = split_page_path(source)
    assert location is not None
    path, page = os.path.abspath(location[0]), location[1]
    document_hash = file_sha256(path)
    embedded_path = _embedded_path(path)
    if can_embed and embedded_path is not None and document_hash in embedded_path:
        return _embedded_page(document_hash, page, Path(path).read_bytes())
    return LocatedImage(page_path(path, page), _page_hash(document_hash, page), b"", embedded=False)


def _embedded_page(document_hash: str, page: int, data: bytes) -> LocatedImage:
    reference = page_path(f"{FOLDER}/{document_hash[:2]}/{document_hash}.pdf", page)
    return LocatedImage(reference, _page_hash(document_hash, page), data, embedded=True)


def _page_hash(document_hash: str, page: int) -> str:
    return hashlib.sha256(page_path(document_hash, page).encode()).hexdigest()


def content_hash(source: ImageSource) -> str:
    """Return the SHA-256 of an encoded image; for a page, one of its file's hash and its number.

    Raises NotFound or BrokenData.
    """
    return locate_image(source).hash


def portable_image(image: ImageSource | None, folder: Path) -> ImageSource | None:
    """Return an image in a form that stays valid if the base in `folder` is moved: the bytes of an
    image that the base stores, other images as they are."""
    if not isinstance(image, str) or not Path(image).is_relative_to(folder):
        return image
    location = split_page_path(image)
    if location is None:
        return image_bytes(image)
    return PdfPage(DocumentBytes(Path(location[0]).read_bytes()), location[1])


def _embedded_path(image: str) -> str | None:
    """Return the end of a path that names an embedded image of some base; None for other paths."""
    path = re.split(r"[/\\]", image)[-3:]
    name = image_file(path[-1])
    is_embedded = path[:2] == [FOLDER, name[:2]] and _NAME.fullmatch(name)
    return "/".join(path) if is_embedded else None


def own_reference(image: str, folder: Path) -> str | None:
    """Return the path within the base for an image that it holds; None for any other image.

    `image` may be an absolute path from before the base was moved to `folder`.
    """
    path = _embedded_path(image)
    return path if path is not None and (folder / image_file(path)).is_file() else None


def save_image(row: EntryRow, folder: Path) -> None:
    """Write the image bytes of a row, if it has any, into the folder of the base."""
    if row.image_bytes is None:
        return
    path = folder / image_file(str(row.image))
    if not path.is_file():
        with atomic_write(path) as temporary:
            temporary.write_bytes(row.image_bytes)


def resolve_image(image: str | None, folder: Path) -> str | None:
    """Return a stored reference as a path or address that can be opened."""
    if image is None or is_address(image) or os.path.isabs(image):
        return image
    return str(folder / image)


def remove_unreferenced(folder: Path, references: Iterable[str]) -> None:
    """Delete the base's own images that no reference names, and leftovers of killed writers.

    References are compared by file name, the hash of the content: the same file may be referred to
    by the path of a base that has been moved since, or through a link.
    """
    names = {re.split(r"[/\\]", image_file(reference))[-1] for reference in references}
    for subfolder in (folder / FOLDER).glob("[0-9a-f]" * 2):
        remove_leftovers(subfolder)
        for path in subfolder.iterdir():
            if _NAME.fullmatch(path.name) and path.name not in names:
                path.unlink(missing_ok=True)
