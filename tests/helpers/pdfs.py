"""Write small PDF files for the tests: text at given places, images, bookmarks, and damage."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

A4 = (595, 842)
HELVETICA = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
BOLD = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>"
CHINESE = (
    "<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H "
    "/DescendantFonts [<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light "
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 2 >> /DW 1000 >>] >>"
)


def text_at(x: float, y: float, text: str, size: float = 12, font: str = "F1") -> str:
    """Return the operators that write `text` with its baseline at (x, y) from the lower left."""
    if font == "F3":
        shown = f"<{text.encode('utf-16-be').hex()}>"
    else:
        shown = "(" + text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") + ")"
    return f"BT /{font} {size} Tf 1 0 0 1 {x} {y} Tm {shown} Tj ET"


@dataclass
class PageContent:
    """A page: operators, size in points, rotation, further keys of its dictionary."""

    operators: str = ""
    size: tuple[float, float] = A4
    rotate: int = 0
    keys: str = ""
    image: Image.Image | None = None
    """Drawn as XObject /Im1 by the operators."""
    fonts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name -> what `unicode_font` returns."""


def page_of_lines(lines: Sequence[str], size: float = 12, top: float = 780) -> PageContent:
    """Return a page with one line of text under the other."""
    operators = [text_at(72, top - 1.25 * size * i, line, size) for i, line in enumerate(lines)]
    return PageContent("\n".join(operators))


def scan(image: Image.Image, size: tuple[float, float] = A4) -> PageContent:
    """Return a page that is covered by an image."""
    return PageContent(f"q {size[0]} 0 0 {size[1]} 0 0 cm /Im1 Do Q", size, image=image)


class PdfWriter:
    """Collects objects and writes them with a cross-reference table."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []

    def add(self, content: str | bytes) -> int:
        """Add an object, and return its number."""
        self.objects.append(content.encode("latin-1") if isinstance(content, str) else content)
        return len(self.objects)

    def add_stream(self, data: bytes, keys: str = "", compress: bool = True) -> int:
        """Add a stream."""
        if compress:
            data, keys = zlib.compress(data), f"{keys} /Filter /FlateDecode"
        header = f"<< {keys} /Length {len(data)} >>\nstream\n".encode("latin-1")
        return self.add(header + data + b"\nendstream")

    def to_bytes(self, root: int, info: str = "", trailer: str = "") -> bytes:
        """Return the file."""
        number = self.add(f"<< {info} >>")
        out = io.BytesIO()
        out.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        offsets = []
        for i, content in enumerate(self.objects, 1):
            offsets.append(out.tell())
            out.write(f"{i} 0 obj\n".encode() + content + b"\nendobj\n")
        start = out.tell()
        out.write(f"xref\n0 {len(offsets) + 1}\n0000000000 65535 f \n".encode())
        for offset in offsets:
            out.write(f"{offset:010} 00000 n \n".encode())
        size = len(offsets) + 1
        out.write(
            f"trailer\n<< /Size {size} /Root {root} 0 R /Info {number} 0 R {trailer} >>\n"
            f"startxref\n{start}\n%%EOF\n".encode()
        )
        return out.getvalue()


def make_pdf(
    pages: Sequence[PageContent | str],
    title: str = "",
    outline: Sequence[tuple[str, int]] = (),
    trailer: str = "",
    catalog: str = "",
) -> bytes:
    """Return a PDF with these pages; a string is a page of its lines. `outline` has title and page
    (from 1) of each bookmark."""
    writer = PdfWriter()
    tree = writer.add("")
    fonts = {"F1": HELVETICA, "F2": BOLD, "F3": CHINESE}
    numbers = []
    for page in pages:
        page = page if isinstance(page, PageContent) else page_of_lines(page.split("\n"))
        names = {name: writer.add(font) for name, font in fonts.items()}
        for name, (font, cmap) in page.fonts.items():
            names[name] = writer.add(font.format(writer.add_stream(cmap.encode())))
        resources = "/Font << " + " ".join(f"/{n} {i} 0 R" for n, i in names.items()) + " >>"
        if page.image is not None:
            image = _add_image(writer, page.image)
            resources += f" /XObject << /Im1 {image} 0 R >>"
        content = writer.add_stream(page.operators.encode("latin-1"))
        numbers.append(
            writer.add(
                f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {page.size[0]} {page.size[1]}] "
                f"/Rotate {page.rotate} /Contents {content} 0 R /Resources << {resources} >> "
                f"{page.keys} >>"
            )
        )
    kids = " ".join(f"{number} 0 R" for number in numbers)
    writer.objects[tree - 1] = f"<< /Type /Pages /Count {len(numbers)} /Kids [{kids}] >>".encode()
    if outline:
        catalog += f" /Outlines {_add_outline(writer, outline, numbers)} 0 R"
    root = writer.add(f"<< /Type /Catalog /Pages {tree} 0 R {catalog} >>")
    return writer.to_bytes(root, f"/Title ({title})" if title else "", trailer)


def _add_image(writer: PdfWriter, image: Image.Image) -> int:
    rgb = image.convert("RGB")
    keys = (
        f"/Type /XObject /Subtype /Image /Width {rgb.width} /Height {rgb.height} "
        "/ColorSpace /DeviceRGB /BitsPerComponent 8"
    )
    return writer.add_stream(rgb.tobytes(), keys)


def _add_outline(
    writer: PdfWriter, outline: Sequence[tuple[str, int]], pages: Sequence[int]
) -> int:
    root = writer.add("")
    first = len(writer.objects) + 1
    for i, (title, page) in enumerate(outline):
        following = f"/Next {first + i + 1} 0 R" if i + 1 < len(outline) else ""
        previous = f"/Prev {first + i - 1} 0 R" if i else ""
        writer.add(
            f"<< /Title ({title}) /Parent {root} 0 R {following} {previous} "
            f"/Dest [{pages[page - 1]} 0 R /XYZ 0 800 0] >>"
        )
    last = first + len(outline) - 1
    writer.objects[root - 1] = (
        f"<< /Type /Outlines /First {first} 0 R /Last {last} 0 R /Count {len(outline)} >>".encode()
    )
    return root


def unicode_font(characters: dict[int, str]) -> tuple[str, str]:
    """Return a font and its /ToUnicode map, which says what character each of its codes is."""
    lines = "\n".join(
        f"<{code:02x}> <{text.encode('utf-16-be').hex()}>" for code, text in characters.items()
    )
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def "
        "/CMapType 2 def 1 begincodespacerange <00> <ff> endcodespacerange "
        f"{len(characters)} beginbfchar\n{lines}\nendbfchar endcmap end end"
    )
    return HELVETICA.replace(" >>", " /ToUnicode {} 0 R >>"), cmap
