"""The demo's page: one file, pictures inside as data URLs, nothing fetched from anywhere, no
script.

Knows the exhibits and how they look; not how they came about. Layout and colours stand in
page.html."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from ravlm.data.text import is_chinese
from ravlm.demo.pictures import Pictures
from ravlm.files import atomic_write
from ravlm.records import Entry, Hit

if TYPE_CHECKING:
    from ravlm.demo import Built, Exhibit
    from ravlm.demo.plan import Section

_TEMPLATE = Path(__file__).with_name("page.html")
_MOST_SHOWN = 48


def write_page(path: Path, built: Built, exhibits: Sequence[Exhibit], own: bool) -> Path:
    """Write the page to `path` and return it. `own`: whether the demo brought the pictures
    along."""
    page = _Page(built, exhibits, own)
    parts = [page.photo(), page.search(), page.questions(), page.talk(), page.absent(), page.base()]
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title="ravlm: pictures asked, with evidence",
        heading="Ask a picture. See what the answer rests on.",
        lead=escape(page.lead()),
        sections="\n".join(part for part in parts if part),
        footer=page.footer(),
    )
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


class _Page:
    """The parts of the page, each a piece of HTML; an empty string where there is nothing to
    show."""

    def __init__(self, built: Built, exhibits: Sequence[Exhibit], own: bool) -> None:
        self.built, self.exhibits, self.own = built, exhibits, own
        self.pictures = Pictures()

    def lead(self) -> str:
        pictured = sum(entry.image is not None for entry in self.built.entries)
        words = len(self.built.entries) - pictured
        what = f"{pictured} pictures" + (f" and {words} loose texts" if words else "")
        return (
            f"A knowledge base of {what} was built on this machine in {self.built.build_seconds:.1f} seconds, "
            "without a download. Everything below was found in it; each answer shows the entries that it was read from."
        )

    def photo(self) -> str:
        """The first picture: asked, matched with texts or pictures, told about."""
        shown = self._of("photo")
        picture = self.pictures.tag(shown[0].step.picture, 900, "The photo that is asked about")
        first = "".join(self._qa(e) for e in shown if e.step.verb == "ask") or self._searched(
            shown[0]
        )
        texts = "".join(self._searched(e) for e in shown if e.step.find == "text")
        captions = "".join(self._told(e) for e in shown if e.step.verb == "caption")
        stories = "".join(self._told(e) for e in shown if e.step.verb == "tell")
        pair = (
            f'<div class="pair"><div>{texts}{captions}</div><div>{stories}</div></div>'
            if stories
            else ""
        )
        return f"""<section aria-labelledby="photo">
<h2 id="photo">{"One photo, asked in two languages" if stories else "One photo, found again"}</h2>
<p class="lead">The photo is mirrored, cropped and darker than the one in the base.</p>
<div class="photo"><figure>{picture}</figure><div>{first}</div></div>
{pair}
</section>"""

    def search(self) -> str:
        cards = "".join(
            f'<article class="card">{self._searched(e, asked=True)}</article>'
            for e in self._of("search")
        )
        return f"""<section aria-labelledby="search">
<h2 id="search">Search in every direction</h2>
<p class="lead">Words, Chinese words, a picture, or a picture with words. The numbers are cosines: higher is nearer.</p>
<div class="cards">{cards}</div>
</section>"""

    def questions(self) -> str:
        cards = "".join(self._question_card(e, "card") for e in self._of("questions"))
        return (
            cards
            and f"""<section aria-labelledby="more">
<h2 id="more">More questions</h2>
<p class="lead">With a photo, or with words alone. The number beside an entry is a cosine for a photo,
a keyword score for words.</p>
<div class="cards">{cards}</div>
</section>"""
        )

    def talk(self) -> str:
        turns = self._of("talk")
        if not turns:
            return ""
        said = "".join(
            f'<div class="turn"><p class="said"{_lang(e.step.text)}>{escape(e.step.text)}</p>'
            f'<p class="reply"{_lang(e.answer.text)}>{escape(e.answer.text)}</p>{self._evidence(e)}</div>'
            for e in turns
            if e.answer is not None
        )
        picture = self.pictures.tag(turns[0].step.picture, 560, "The photo that is talked about")
        return f"""<section aria-labelledby="talk">
<h2 id="talk">A talk</h2>
<p class="lead">It keeps in mind what the talk is about, and looks it up anew at each turn.</p>
<div class="talk"><figure>{picture}</figure><div>{said}</div></div>
</section>"""

    def absent(self) -> str:
        cards = "".join(self._question_card(e, "card absent") for e in self._of("absent"))
        return (
            cards
            and f"""<section aria-labelledby="absent">
<h2 id="absent">It says so when it does not know</h2>
<p class="lead">Nothing in the base answers these.</p>
<div class="cards">{cards}</div>
</section>"""
        )

    def base(self) -> str:
        pictured = [entry for entry in self.built.entries if entry.image is not None]
        loose = [entry for entry in self.built.entries if entry.image is None]
        gallery = "".join(
            f"<li>{self.pictures.tag(entry.image, 360, _name(entry))}<span>{escape(_name(entry))}</span>"
            f"<small>{escape(str(entry.metadata.get('credit', '')))}</small></li>"
            for entry in pictured[:_MOST_SHOWN]
        )
        notes = "".join(
            f"<li{_lang(e.text)}>{escape(_brief(e.text))}</li>" for e in loose[:_MOST_SHOWN]
        )
        hidden = (
            len(self.built.entries) - min(len(pictured), _MOST_SHOWN) - min(len(loose), _MOST_SHOWN)
        )
        more = f'<p class="lead">And {hidden:,} more.</p>' if hidden else ""
        explained = "Each picture comes with what is known of it; the texts have none, and some are about nothing here."
        return f"""<section aria-labelledby="base">
<h2 id="base">What is in the base</h2>
<p class="lead">{explained if self.own else ""}</p>
<ul class="gallery">{gallery}</ul><ul class="notes">{notes}</ul>{more}
</section>"""

    def footer(self) -> str:
        here = escape(os.path.relpath(self.built.path.parent))
        refused = "".join(f"<p>Refused: {escape(line)}</p>" for line in self.built.refused)
        asked = sum(e.seconds for e in self.exhibits)
        return f"""<p>{len(self.built.entries)} entries, {self.built.parts} vectors. Loading the encoder
({escape(self.built.encoder)}) took {self.built.load_seconds:.1f} s, building {self.built.build_seconds:.1f} s,
everything that was searched, asked and told {asked:.1f} s.</p>{refused}
<p>Go on from here, in the environment that made this page (<code>source .venv/bin/activate</code>):</p>
<pre>ravlm search {here}/kb --text "something orange"
ravlm ask {here}/kb "What is in the picture?" --image {here}/photo.jpg
ravlm demo --data FOLDER --out my-demo</pre>"""

    def _of(self, section: Section) -> list[Exhibit]:
        return [exhibit for exhibit in self.exhibits if exhibit.step.section == section]

    def _qa(self, exhibit: Exhibit) -> str:
        answer = exhibit.answer
        assert answer is not None  # an ask always has one
        return (
            f'<div class="qa"><p class="question"{_lang(exhibit.step.text)}>{escape(exhibit.step.text)}</p>'
            f'<p class="answer"{_lang(answer.text)}>{escape(answer.text)}</p>{self._evidence(exhibit)}</div>'
        )

    def _told(self, exhibit: Exhibit) -> str:
        """A caption or a story with its evidence; the marks [1] stand higher and smaller."""
        answer = exhibit.answer
        assert answer is not None
        text = re.sub(r" ?\[([\d, ]+)\]", r"<sup>\1</sup>", escape(answer.text))
        label = escape(_title(exhibit.step.label))
        return f'<h3>{label}</h3><p class="story"{_lang(answer.text)}>{text}</p>{self._evidence(exhibit)}'

    def _question_card(self, exhibit: Exhibit, kind: str) -> str:
        label = f"<h3>{escape(_title(exhibit.step.label))}</h3>"
        if exhibit.step.picture is None:
            return f'<article class="{kind}">{label}{self._qa(exhibit)}</article>'
        picture = self.pictures.tag(exhibit.step.picture, 300, "The photo that is asked about")
        return f'<article class="{kind}">{label}<div class="with-photo">{picture}{self._qa(exhibit)}</div></article>'

    def _evidence(self, exhibit: Exhibit) -> str:
        """What the answer rests on; for the first photo and where it abstained, also what else was
        looked at."""
        answer = exhibit.answer
        assert answer is not None
        cited = [hit for hit in exhibit.hits if hit.entry.id in answer.citations]
        rest = [hit for hit in exhibit.hits if hit.entry.id not in answer.citations]
        groups = [
            ("cited", f"Read from (confidence {answer.confidence:.2f})", cited),
            ("rest", "Looked at, and not enough" if answer.abstained else "Also looked at", rest),
        ]
        return "".join(
            f'<p class="sure">{words}</p><ul class="evidence {kind}">{"".join(map(self._chip, hits))}</ul>'
            for kind, words, hits in groups
            if hits and (kind == "cited" or self._shows_all(exhibit))
        )

    @staticmethod
    def _shows_all(exhibit: Exhibit) -> bool:
        return exhibit.step.section == "absent" or (
            exhibit.step.section == "photo" and exhibit.step.verb == "ask"
        )

    def _chip(self, hit: Hit) -> str:
        score, text = f'<b class="score">{hit.score:.2f}</b>', hit.entry.text
        if hit.entry.image is None:
            return f'<li class="words"><span{_lang(text)}>{escape(_brief(text, 40))}</span>{score}</li>'
        return f"<li>{self.pictures.tag(hit.entry.image, 64, '')}<span>{escape(hit.entry.id)}</span>{score}</li>"

    def _searched(self, exhibit: Exhibit, asked: bool = False) -> str:
        """The hits of a search below its label; `asked`: and what was searched for."""
        query = self._asked(exhibit) if asked else ""
        hits = self._lines(exhibit) if exhibit.step.find == "text" else self._found(exhibit)
        return f"<h3>{escape(_title(exhibit.step.label))}</h3>{query}{hits}"

    def _asked(self, exhibit: Exhibit) -> str:
        step = exhibit.step
        picture = self.pictures.tag(step.picture, 200, "The picture that is searched for")
        words = f"<q{_lang(step.text)}>{escape(step.text)}</q>" if step.text else ""
        gloss = f"<small>read as: {escape(exhibit.gloss)}</small>" if exhibit.gloss else ""
        return f'<div class="asked">{picture}<div>{words}{gloss}</div></div>'

    def _found(self, exhibit: Exhibit) -> str:
        items = "".join(
            f"<li>{self.pictures.tag(hit.entry.image, 200, _name(hit.entry))}<span>{escape(hit.entry.id)}</span>"
            f'<b class="score">{hit.score:.2f}</b></li>'
            for hit in exhibit.hits
        )
        return f'<ol class="found">{items}</ol>'

    def _lines(self, exhibit: Exhibit) -> str:
        best = max((hit.score for hit in exhibit.hits), default=1.0)
        return f'<ol class="lines">{"".join(self._line(exhibit, hit, best) for hit in exhibit.hits)}</ol>'

    def _line(self, exhibit: Exhibit, hit: Hit, best: float) -> str:
        share = max(0.0, min(1.0, hit.score / best)) if best > 0 else 0.0
        mark = ""
        if exhibit.step.subject:
            right = exhibit.step.subject in (hit.entry.id, hit.entry.metadata.get("shows"))
            mark = f'<span class="mark {"right" if right else "wrong"}">{"✓ right" if right else "✗ wrong"}</span>'
        return (
            f"<li><span{_lang(hit.part.text)}>{escape(_brief(hit.part.text, 56))}{mark}</span>"
            f'<span class="score">{hit.score:.2f}</span><span class="bar" style="--share:{share:.0%}"></span></li>'
        )


def _name(entry: Entry) -> str:
    """What the entry's first line calls it, else its id."""
    first = entry.text.splitlines()[0] if entry.text.strip() else ""
    return _brief(first.partition(":")[2].strip() or first or entry.id)


def _brief(text: str, most: int = 90) -> str:
    line = " · ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _title(label: str) -> str:
    return label[:1].upper() + label[1:]


def _lang(text: str) -> str:
    return ' lang="zh"' if is_chinese(text) else ""
