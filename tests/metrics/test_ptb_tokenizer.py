"""Penn Treebank tokens equal those of the caption tools (Java, if it is installed)."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravlm.metrics import PtbTokenizer

EXPECTED = {
    "A man's dog can't run, it's tired.": "a man 's dog ca n't run it 's tired",
    "don’t ‘quote’ “me” I'll they've": "do n't quote me i 'll they 've",
    "I cannot, gonna; wanna gimme 'tis": "i can not gon na wan na gim me 't is",
    "the dogs' tails - black-and-white -- t-shirts": "the dogs tails black-and-white t-shirts",
    "Mr. Smith of the U.S. Army at 5 a.m. in Inc. etc.": (
        "mr. smith of the u.s. army at 5 a.m. in inc. etc."
    ),
    "fig. 5 is a fig. No. 7 or no.": "fig. 5 is a fig no. 7 or no",
    "So do I. The end. Plan B. Bye": "so do i the end plan b. bye",
    "1,000 of 3.5 at 10:30 for $5.00 -- 50%": "1,000 of 3.5 at 10:30 for $ 5.00 50 %",
    "1 1/2 cups, ½ tsp, 5' 6\" tall, '90s": "1\xa01/2 cups 1/2 tsp 5 6 tall '90s",
    "(a) [b] {c}": "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-",
    "and/or w/o x/y/z": "and/or w/o x/y/z",
    "rock 'n' roll o'clock O'Neil y'all ma'am": "rock 'n' roll o'clock o'neil y' all ma'am",
    "http://foo.com/bar, foo.com; me@foo.com #tag @me": (
        "http://foo.com/bar foo.com me@foo.com #tag @me"
    ),
    "<b>bold</b> AT&T &amp; R&D £5 €5": "<b> bold </b> at&t & r&d # 5 $ 5",
    "yes!! no? ... what?!": "yes !! no what ?!",
    "café naïve e\u0301te\u0301 天空，蓝色。": "café naïve e\u0301te\u0301 天空 ， 蓝色 。",
    "gone: \u200b😀👍🏽\ufeff here": "gone here",
    "": "",
    " \t\n": "",
}
"""Text -> tokens of the Java program, without punctuation."""

PIECES = """
a I dog The man's don't it’s isn't cannot gonna o'clock O'Neil d'art c'est y'all 'n' 'em
'tis 's n't ' " “ ” ‘ ’ `
`` '' . , ; : ! ? - -- --- – — … ... / \\ | _ * + = < > ( ) [ ] { } # $ % & @ ^ ~ £ € ½ ² °
© 1 10 1,000 3.5 1/2
10:30 1990s '90s 5th 5pm p.m. U.S. u.s. Mr. mr. Dr. etc. inc. no. No. fig. e.g. vs. Ph.D.
t-shirt black-and-white
x-ray mid-1990s and/or w/o http://foo.com/bar www.foo.com foo.com foo@bar.com #tag @user :)
:-( ;) <3 ^_^ <b> </b>
&amp; &nbsp; &quot; café é 你好 ， 。 😀 ❤ \u00a0 \u200b \u3000 C++ C# AT&T A&B 4x4 12-year-old
6'2" 50% $5 US$5 -5 .5
2003-12-25 12/25/2003 555-1234 in word.word a_b __init__ co-op jack-o'-lantern dogs' WORLD
iPhone""".split()  # noqa: SIM905


@pytest.mark.parametrize("text", EXPECTED)
def test_tokens(text: str) -> None:
    assert " ".join(PtbTokenizer()(text)) == EXPECTED[text]


@given(st.text(max_size=60))
def test_any_text_has_tokens(text: str) -> None:
    for token in PtbTokenizer()(text):
        assert token.strip(" \t\n")
        assert token == token.lower()


def test_no_text_takes_quadratic_time() -> None:
    """Addresses and tags were once searched to the end of the text from every character."""
    start = time.process_time()
    for pattern in ("a;", "a@", "<!a", "a,a", "(1", "www.a.", "&", "<a ", "a'", "1.,"):
        PtbTokenizer()(pattern * 4000)
    assert time.process_time() - start < 8


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory):
    """The caption tools' tokenizer: lines in, lines of tokens out."""
    package = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    program = shutil.which("java")
    if program is None:
        pytest.skip("Java is not installed; only it can run the reference tokenizer")
    jar = Path(package.__file__).parent / package.STANFORD_CORENLP_3_4_1_JAR
    folder = tmp_path_factory.mktemp("java")

    def tokens(lines: list[str]) -> list[str]:
        (folder / "in.txt").write_text("\n".join(lines), encoding="utf-8")
        name = "edu.stanford.nlp.process.PTBTokenizer"
        command = [
            program,
            "-cp",
            jar,
            name,
            "-preserveLines",
            "-lowerCase",
            "-encoding",
            "utf-8",
            "in.txt",
        ]
        found = (
            subprocess.run(command, cwd=folder, capture_output=True, check=True)
            .stdout.decode("utf-8")
            .split("\n")
        )
        kept = [
            [w for w in line.rstrip().split(" ") if w not in package.PUNCTUATIONS] for line in found
        ]
        return [" ".join(words) for words in kept[: len(lines)]]

    return tokens


def test_equal_to_java_on_what_is_written_here(java) -> None:
    lines = [text for text in EXPECTED if text.strip()]
    assert java(lines) == [EXPECTED[text] for text in lines]


def test_equal_to_java_on_real_text(java, shared_data: Path) -> None:
    """Captions of 3,000 photos, product texts, questions, descriptions: no line differs."""
    lines: list[str] = []
    for name, most in (
        ("flickr8k", 15_000),
        ("ikea_products", 3_000),
        ("daquar", 2_000),
        ("grocery_store", 900),
    ):
        with (shared_data / name / "metadata.jsonl").open(encoding="utf-8") as rows:
            texts = [text for row in rows for text in strings(json.loads(row))]
        lines += [line for text in texts for line in text.split("\n") if line.strip()][:most]
    ours = PtbTokenizer()
    differ = [
        (line, theirs)
        for line, theirs in zip(lines, java(lines), strict=True)
        if " ".join(ours(line)) != theirs
    ]
    assert len(lines) > 18_000
    assert not differ


def test_near_to_java_on_nasty_text(java) -> None:
    """Randomly concatenated fragments: at most 1 line in 200 may differ."""
    rng = random.Random(0)
    lines = []
    for _ in range(3000):
        lines.append(
            f"z {''.join(rng.choice(PIECES) + rng.choice(['', ' ', ' ']) for _ in range(5))} z"
        )
    ours = PtbTokenizer()
    differ = [
        line
        for line, theirs in zip(lines, java(lines), strict=True)
        if " ".join(ours(line)) != theirs
    ]
    assert len(differ) <= 15, differ


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return [text for child in children for text in strings(child)]
