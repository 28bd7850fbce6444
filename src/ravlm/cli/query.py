"""The commands that ask something of a knowledge base: search, ask, caption, tell, chat.

Each opens the base, calls one library function for each question, and prints. Knows no retrieval
and no generator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from ravlm.cli.output import answer_record, hit_record, note, print_evidence, print_hits, print_json
from ravlm.cli.parser import GENERATOR, KB, WHERE, Command, K, Options, UsageError, argument
from ravlm.records import Answer, ImageSource

if TYPE_CHECKING:
    from ravlm.model import RetrievalAugmentedVLM

Words: TypeAlias = Generator[str, None, Answer]
"""Pieces of an answer's text as they come; returns the answer."""

_QUESTION = argument("question", metavar="QUESTION", help="- reads one question a line from stdin")
_IMAGE = argument(
    "--image", metavar="PICTURE", help="a picture to ask about; - reads it from stdin"
)


def search(options: Options) -> int:
    """`ravlm search`."""
    from ravlm import KnowledgeBase

    if options.text is None and options.image is None:
        raise UsageError("Search for what? Give --text, --image or both; see ravlm search --help.")
    image = _picture(options.image, options.text)
    with KnowledgeBase.open(options.kb) as kb:
        for text in _lines(options.text):
            hits = kb.search(
                text=text, image=image, k=options.k, modality=options.modality, where=options.where
            )
            if options.json:
                for hit in hits:
                    print_json(({"query": text} if options.text == "-" else {}) | hit_record(hit))
            else:
                print_hits(hits)
    return 0


def ask(options: Options) -> int:
    """`ravlm ask`."""
    image = _picture(options.image, options.question)
    with _model(options) as model:
        for question in _lines(options.question):
            _show(model.stream_ask(str(question), image, options.k, options.where), options.json)
    return 0


def caption(options: Options) -> int:
    """`ravlm caption`."""
    with _model(options) as model:
        for picture in options.pictures:
            image = sys.stdin.buffer.read() if picture == "-" else picture
            words = model.stream_caption(image, options.k, options.where)
            if options.json:
                print_json({"image": picture} | answer_record(_whole(words, lambda piece: None)))
            else:
                print(f"{picture}: " if len(options.pictures) > 1 else "", end="")
                _whole(words, _print_piece)
                print(flush=True)
    return 0


def tell(options: Options) -> int:
    """`ravlm tell`."""
    if options.picture is None and options.prompt is None:
        raise UsageError(
            "Tell about what? Give a picture, --prompt or both; see ravlm tell --help."
        )
    image = _picture(options.picture, options.prompt)
    with _model(options) as model:
        for prompt in _lines(options.prompt):
            _show(model.stream_tell(image, prompt, options.k, options.where), options.json)
    return 0


def chat(options: Options) -> int:
    """`ravlm chat`: a turn for each line of stdin, until its end."""
    image = _picture(options.picture, "-")
    messages: list[dict[str, str]] = []
    with _model(options) as model:
        if sys.stdin.isatty():
            note("One line a turn; an empty line or Ctrl-D ends the talk.")
        for line in _turns():
            messages.append({"role": "user", "content": line})
            answer = _show(
                model.stream_chat(messages, image, options.k, options.where), options.json
            )
            messages.append({"role": "assistant", "content": answer.text})
    return 0


def _show(words: Words, as_json: bool) -> Answer:
    """Print an answer as its words come, then its evidence; return it."""
    if as_json:
        answer = _whole(words, lambda piece: None)
        print_json(answer_record(answer))
    else:
        answer = _whole(words, _print_piece)
        print()
        print_evidence(answer)
    return answer


def _whole(words: Words, on_piece: Callable[[str], None]) -> Answer:
    while True:
        try:
            on_piece(next(words))
        except StopIteration as end:
            return end.value


def _print_piece(piece: str) -> None:
    print(piece, end="", flush=True)


@contextmanager
def _model(options: Options) -> Iterator[RetrievalAugmentedVLM]:
    from ravlm import KnowledgeBase, RetrievalAugmentedVLM

    with KnowledgeBase.open(options.kb) as kb:
        yield RetrievalAugmentedVLM(kb, generator=options.generator)


def _picture(name: str | None, words: str | None = None) -> ImageSource | None:
    """The picture's path, or its bytes where `name` is `-`; `words`: the command's other argument
    that may be `-`."""
    if name == words == "-":
        raise UsageError(
            "The picture and the words can't both come from stdin; name a file for the picture."
        )
    return sys.stdin.buffer.read() if name == "-" else name


def _lines(text: str | None) -> Iterator[str | None]:
    """The text itself; for `-` each line of stdin that is not blank."""
    if text == "-":
        yield from (line.strip() for line in sys.stdin if line.strip())
    else:
        yield text


def _turns() -> Iterator[str]:
    while True:
        if sys.stdin.isatty():
            print("\nyou> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


COMMANDS = {
    "search": Command(
        "find entries by words, by a picture or by both",
        search,
        (
            KB,
            argument(
                "--text",
                metavar="T",
                help="words to search for; - reads one search a line from stdin",
            ),
            argument(
                "--image", metavar="PICTURE", help="a picture to search for; - reads it from stdin"
            ),
            argument("-k", type=int, default=5, metavar="N", help="how many hits (default 5)"),
            argument(
                "--modality",
                choices=("any", "image", "text"),
                default="any",
                help="what may match (default: any)",
            ),
            WHERE,
        ),
        """
        ravlm search kb --text "a fluffy orange cat"
        ravlm search kb --image cat.jpg --modality text
        ravlm search kb --image cat.jpg --text "on a red chair" --where 'year >= 2020'
        """,
    ),
    "ask": Command(
        "answer a question from the entries, naming the evidence",
        ask,
        (
            KB,
            argument("question", metavar="QUESTION", help="- reads one question a line from stdin"),
            _IMAGE,
            K,
            GENERATOR,
            WHERE,
        ),
        """
        ravlm ask kb "What is the animal in the picture?" --image cat.jpg
        ravlm ask kb 图片中的动物是什么？ --image cat.jpg
        ravlm ask kb "Where does it live?" --image cat.jpg --generator http://localhost:11434/v1#gemma3
        """,
    ),
    "caption": Command(
        "describe pictures by what is known of pictures like them",
        caption,
        (
            KB,
            argument("pictures", metavar="PICTURE", nargs="+", help="- reads one from stdin"),
            K,
            GENERATOR,
            WHERE,
        ),
        "ravlm caption kb cat.jpg harbour.jpg",
    ),
    "tell": Command(
        "tell a short story, each sentence with its evidence",
        tell,
        (
            KB,
            argument(
                "picture",
                metavar="PICTURE",
                nargs="?",
                help="what to tell about; - reads it from stdin",
            ),
            argument(
                "--prompt",
                metavar="TEXT",
                help="what to tell about, in words; - reads one prompt a line",
            ),
            K,
            GENERATOR,
            WHERE,
        ),
        """
        ravlm tell kb cat.jpg
        ravlm tell kb cat.jpg --prompt "讲一个故事"
        """,
    ),
    "chat": Command(
        "talk, one line a turn; each answer is looked up anew",
        chat,
        (
            KB,
            argument("picture", metavar="PICTURE", nargs="?", help="a picture to talk about"),
            K,
            GENERATOR,
            WHERE,
        ),
        "ravlm chat kb cat.jpg",
    ),
}
