"""The commands that query a knowledge base: search, ask, caption, tell, chat.

Each opens the base, calls one library function per query, and prints."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravlm.cli import stdin
from ravlm.cli.calibration import CalibrationProgress
from ravlm.cli.command import (
    BASE_ONLY,
    GENERATOR,
    KB,
    MAX_TOKENS,
    OCR_QUESTION,
    WHERE,
    Command,
    K,
    Options,
    UsageError,
    argument,
)
from ravlm.cli.output import (
    note,
    print_evidence,
    print_hits,
    print_json,
    print_remarks,
)
from ravlm.generation.base import VerbName
from ravlm.ocr.base import OcrMode
from ravlm.records import Answer, AnswerStream, ImageSource

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM


_CHAT_ENDS = ("exit", "quit", "/exit", "/quit", ":q", "退出")
_CHAT_HELP = (
    "Each line is a turn; every turn searches the base. exit or quit ends the chat, /help shows "
    "this. To talk about a picture, name it after the base: ravlm chat KB IMAGE."
)


def search(options: Options) -> int:
    """Run `ravlm search`."""
    from ravlm import KnowledgeBase, SearchOptions

    if options.text is None and options.image is None:
        raise UsageError("No query given: use --text, --image or both; see ravlm search --help.")
    image = _image(options.image, options.text)
    search_options = SearchOptions(
        method=options.method,
        min_score=options.min_score,
        rerank=options.rerank,
        group_by=options.group_by,
        relevance=not options.json,
    )
    with KnowledgeBase.open(options.kb) as kb:
        for text in _lines(options.text):
            hits = kb.search(
                text=text,
                image=image,
                k=options.k,
                modality=options.modality,
                where=options.where,
                options=search_options,
            )
            if options.json:
                query = {"query": text} if options.text == "-" else {}
                for hit in hits:
                    print_json(query | hit.to_dict())
            else:
                print_hits(hits)
    return 0


def ask(options: Options) -> int:
    """Run `ravlm ask`."""
    _check_page(options, options.question)
    image = _image(options.image, options.question)
    with _model(options, options.ocr) as model:
        for question in _lines(options.question):
            stream = _stream(model, options, "ask", question, image)
            answer = _print_answer(stream, options.json)
            _write_page(options, answer, question, image)
    return 0


def caption(options: Options) -> int:
    """Run `ravlm caption`."""
    with _model(options) as model:
        for name in options.images:
            image = sys.stdin.buffer.read() if name == "-" else name
            stream = _stream(model, options, "caption", None, image)
            if options.json:
                print_json({"image": name} | _consume(stream, _discard).to_dict())
            else:
                print(f"{name}: " if len(options.images) > 1 else "", end="")
                answer = _consume(stream, _print_piece)
                print(flush=True)
                print_remarks(answer)
    return 0


def tell(options: Options) -> int:
    """Run `ravlm tell`."""
    if options.image is None and options.prompt is None:
        raise UsageError("No topic given: use IMAGE, --prompt or both; see ravlm tell --help.")
    _check_page(options, options.prompt)
    image = _image(options.image, options.prompt)
    with _model(options) as model:
        for prompt in _lines(options.prompt):
            stream = _stream(model, options, "tell", prompt, image)
            answer = _print_answer(stream, options.json)
            _write_page(options, answer, prompt, image)
    return 0


def chat(options: Options) -> int:
    """Run `ravlm chat`: one turn per line of stdin."""
    image = _image(options.image, "-")
    messages: list[dict[str, str]] = []
    with _model(options, options.ocr) as model:
        if sys.stdin.isatty():
            note("Type one line per turn; exit, an empty line or Ctrl-D ends the chat. Try /help.")
        for line in _turns():
            messages.append({"role": "user", "content": line})
            stream = _stream(model, options, "chat", messages, image)
            answer = _print_answer(stream, options.json)
            messages.append({"role": "assistant", "content": answer.text})
    return 0


def _stream(
    model: RetrievalAugmentedVLM, options: Options, verb: VerbName, text: Any, image: Any
) -> AnswerStream:
    return model.stream(verb, text, image, options.k, options.where, options.base_only)


def _print_answer(stream: AnswerStream, as_json: bool) -> Answer:
    """Print an answer as it is generated, then its evidence; return it."""
    if as_json:
        answer = _consume(stream, _discard)
        print_json(answer.to_dict())
    else:
        answer = _consume(stream, _print_piece)
        print()
        print_evidence(answer)
    return answer


def _check_page(options: Options, text: str | None) -> None:
    if options.html is not None and text == "-":
        raise UsageError("--html writes the page of one answer; give its text instead of -.")


def _write_page(
    options: Options, answer: Answer, title: str | None, image: ImageSource | None
) -> None:
    """Write the page that `--html` names: the answer with the cited places of its sources."""
    if options.html is not None:
        from ravlm.cli.answer_page import write_answer_page

        note(f"Wrote {write_answer_page(options.html, answer, title or '', image)}.")


def _consume(stream: AnswerStream, on_piece: Callable[[str], None]) -> Answer:
    """Read a stream to its end and return the answer."""
    while True:
        try:
            on_piece(next(stream))
        except StopIteration as end:
            return end.value


def _print_piece(piece: str) -> None:
    print(piece, end="", flush=True)


def _discard(piece: str) -> None:
    pass


@contextmanager
def _model(options: Options, ocr: OcrMode = "auto") -> Iterator[RetrievalAugmentedVLM]:
    from ravlm import KnowledgeBase, RetrievalAugmentedVLM

    with KnowledgeBase.open(options.kb) as kb:
        progress = CalibrationProgress()
        yield RetrievalAugmentedVLM(
            kb,
            options.generator,
            progress=progress,
            ocr=ocr,
            max_tokens=options.max_tokens,
        )


def _image(name: str | None, text: str | None = None) -> ImageSource | None:
    """Return the path of the image, or its bytes if `name` is `-`. `text` is the command's other
    argument that may be `-`."""
    if name == text == "-":
        raise UsageError(
            "The image and the text can't both come from stdin; name a file for the image."
        )
    return sys.stdin.buffer.read() if name == "-" else name


def _lines(text: str | None) -> Iterator[str | None]:
    """Yield the text itself, or each non-blank line of stdin if it is `-`."""
    if text == "-":
        yield from (line.strip() for line in stdin.lines())
    else:
        yield text


def _turns() -> Iterator[str]:
    """Yield the lines of stdin up to `exit` or a blank one, with a prompt on a terminal.

    `/help` and other words after a slash are commands and no turns."""
    while True:
        if sys.stdin.isatty():
            print("\nyou> ", end="", file=sys.stderr, flush=True)
        line = stdin.read_line()
        turn = (line or "").strip()
        if not turn or turn.lower() in _CHAT_ENDS:
            return
        if turn == "/help":
            note(_CHAT_HELP)
        elif re.fullmatch(r"/\w+", turn):
            note(f'There is no command "{turn}". {_CHAT_HELP}')
        else:
            yield turn


_QUESTION = argument(
    "question", metavar="QUESTION", help="- reads one question per line from stdin"
)
_ABOUT_IMAGE = argument(
    "--image", metavar="IMAGE", help="image to ask about; - reads it from stdin"
)
_HTML = argument(
    "--html",
    type=Path,
    metavar="FILE",
    help="also write a page that shows each cited place on its image",
)
_ANSWER_OPTIONS = (K, GENERATOR, WHERE, BASE_ONLY, MAX_TOKENS)
COMMANDS = {
    "search": Command(
        "find entries by text, by image, or by both",
        search,
        (
            KB,
            argument(
                "--text",
                metavar="TEXT",
                help="text to search for; - reads one query per line from stdin",
            ),
            argument("--image", metavar="IMAGE", help="image to search for; - reads it from stdin"),
            argument("-k", type=int, default=5, metavar="N", help="number of hits (default 5)"),
            argument(
                "--modality",
                choices=("any", "image", "text"),
                default="any",
                help="parts to match (default: any)",
            ),
            WHERE,
            argument(
                "--method",
                choices=("dense", "keyword", "hybrid"),
                default="dense",
                help="compare meaning, words (BM25), or fuse both (default: dense)",
            ),
            argument("--min-score", type=float, metavar="X", help="drop hits below this score"),
            argument("--rerank", choices=("exact",), help="rank again by the stored vectors"),
            argument("--group-by", metavar="KEY", help="keep one hit per value of a metadata key"),
        ),
        """
        ravlm search kb --text "a fluffy orange cat"
        ravlm search kb --image cat.jpg --modality text
        ravlm search kb --image cat.jpg --text "on a red chair" --where 'year >= 2020'
        """,
    ),
    "ask": Command(
        "answer a question and cite the entries it is based on",
        ask,
        (KB, _QUESTION, _ABOUT_IMAGE, _HTML, OCR_QUESTION, *_ANSWER_OPTIONS),
        """
        ravlm ask kb "What is the animal in the picture?" --image cat.jpg
        ravlm ask kb 图片中的动物是什么？ --image cat.jpg
        ravlm ask kb "Where does it live?" --image cat.jpg --generator http://localhost:11434/v1#gemma3
        """,
    ),
    "caption": Command(
        "caption images, with evidence from the knowledge base",
        caption,
        (
            KB,
            argument("images", metavar="IMAGE", nargs="+", help="- reads one image from stdin"),
            *_ANSWER_OPTIONS,
        ),
        "ravlm caption kb cat.jpg harbor.jpg",
    ),
    "tell": Command(
        "write a short story in which each sentence cites its evidence",
        tell,
        (
            KB,
            argument(
                "image",
                metavar="IMAGE",
                nargs="?",
                help="image to write about; - reads it from stdin",
            ),
            argument(
                "--prompt",
                metavar="TEXT",
                help="what to write about; - reads one prompt per line from stdin",
            ),
            _HTML,
            *_ANSWER_OPTIONS,
        ),
        """
        ravlm tell kb cat.jpg
        ravlm tell kb cat.jpg --prompt "讲一个故事"
        ravlm tell kb --prompt "the harbor at night" --html story.html
        """,
    ),
    "chat": Command(
        "chat with the knowledge base, one line per turn; every turn retrieves evidence",
        chat,
        (
            KB,
            argument("image", metavar="IMAGE", nargs="?", help="image to talk about"),
            OCR_QUESTION,
            *_ANSWER_OPTIONS,
        ),
        "ravlm chat kb cat.jpg",
    ),
}
