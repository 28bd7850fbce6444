"""The bodies of requests and responses, as they are checked and as the OpenAPI page shows them.

Our own are strict: no unknown key, no number in quotes. Those in OpenAI's form take every key that
its clients send, and refuse what would be promised and not done. Knows no model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

MOST_TEXT, MOST_K, MOST_INPUTS, MOST_MESSAGES, MOST_PAGE, MOST_TOKENS = (
    20_000,
    100,
    64,
    100,
    200,
    4096,
)
MOST_ID = 500
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAFElEQVR4nG"
    "P8MNmGAQaYGJAAbg4AWQYBxwKRykYAAAAASUVORK5CYII="
)
"""A tiny orange picture, for examples."""

Words = Annotated[str, Field(min_length=1, max_length=MOST_TEXT, pattern=r"\S")]
ImageUrl = Annotated[
    str, Field(min_length=5, description="A data URL of a picture: data:image/jpeg;base64,...")
]
K = Annotated[
    int, Field(ge=0, le=MOST_K, description="Entries to read as evidence; 0: closed book.")
]
Identity = Annotated[str, Field(min_length=1, max_length=MOST_ID, pattern=r"\S")]
Where = Annotated[
    str | dict[str, JsonValue] | None,
    Field(
        description='Only such entries: {"split": "train"} or "year >= 1990 and kind in [\\"bird\\"]".'
    ),
]


class Strict(BaseModel):
    """A body of our own."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Lenient(BaseModel):
    """A body in OpenAI's form."""

    model_config = ConfigDict(extra="ignore", strict=True)


def example(*bodies: dict[str, Any], strict: bool = True) -> ConfigDict:
    """A body's settings with its examples."""
    extra: Literal["forbid", "ignore"] = "forbid" if strict else "ignore"
    return ConfigDict(extra=extra, strict=True, json_schema_extra={"examples": list(bodies)})


# knowledge


class SearchBody(Strict):
    """A search by words, by a picture, or by both."""

    model_config = example({"text": "a fluffy orange cat", "k": 3, "modality": "image"})
    text: Words | None = None
    image: ImageUrl | None = None
    k: Annotated[int, Field(ge=1, le=MOST_K)] = 10
    modality: Literal["any", "image", "text"] = "any"
    where: Where = None


class Reading(Strict):
    """What everything that is answered from the base has."""

    k: K | None = None
    where: Where = None
    stream: bool = False


class AskBody(Reading):
    """A question, about a picture or in words alone."""

    model_config = example(
        {"question": "What is the animal in the picture?", "image": PICTURE, "k": 4}
    )
    question: Words
    image: ImageUrl | None = None


class CaptionBody(Reading):
    """A picture to be described."""

    model_config = example({"image": PICTURE})
    image: ImageUrl


class TellBody(Reading):
    """A picture, a prompt or both, to tell a short story about."""

    model_config = example({"prompt": "the harbour at night"})
    image: ImageUrl | None = None
    prompt: Words | None = None


class EditBody(Strict):
    """A picture and how to change it."""

    model_config = example({"image": PICTURE, "instruction": "make the sky blue"})
    image: ImageUrl
    instruction: Words
    k: K | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class EntryBody(Strict):
    """What of an entry can be given: a picture, texts, or both."""

    model_config = example({"texts": ["Name: tabby cat\nEyes: green"], "metadata": {"year": 2011}})
    image: ImageUrl | None = None
    text: Words | None = None
    texts: Annotated[list[Words], Field(max_length=100)] = []
    metadata: dict[str, JsonValue] = {}

    @property
    def all_texts(self) -> list[str]:
        """`text` and `texts` together."""
        return [*([] if self.text is None else [self.text]), *self.texts]


class NewEntry(EntryBody):
    """An entry to add; without an id it gets one of its content."""

    model_config = example(
        {"id": "cat", "texts": ["a fluffy orange cat"], "metadata": {"year": 2011}}
    )
    id: Identity | None = None


class EntriesBody(Strict):
    """Entries to add, up to 64; an id that is there is replaced."""

    model_config = example(
        {"entries": [{"id": "cat", "texts": ["a fluffy orange cat"], "metadata": {"year": 2011}}]}
    )
    entries: Annotated[list[NewEntry], Field(min_length=1, max_length=MOST_INPUTS)]


class ChangeBody(Strict):
    """What is to change of an entry; what is left out stays."""

    model_config = example({"metadata": {"year": 2012}})
    image: ImageUrl | None = None
    texts: Annotated[list[Words], Field(max_length=100)] | None = None
    metadata: dict[str, JsonValue] | None = None


class IdsBody(Strict):
    """Ids of entries."""

    model_config = example({"ids": ["cat", "note-1"]})
    ids: Annotated[list[Identity], Field(min_length=1, max_length=1000)]


class VerifyBody(Strict):
    """How many entries are encoded again to prove their vectors."""

    model_config = example({"sample": 16})
    sample: Annotated[int, Field(ge=1, le=1000)] = 16


# OpenAI's form


class ImageAddress(Lenient):
    """Where a picture is."""

    url: ImageUrl


class TextPart(Lenient):
    """Words of a message or an input."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=MOST_TEXT)]


class ImagePart(Lenient):
    """A picture of a message or an input."""

    type: Literal["image_url"]
    image_url: ImageAddress


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(Lenient):
    """A turn of a talk."""

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Annotated[str, Field(max_length=MOST_TEXT)]
        | Annotated[list[Part], Field(max_length=32)]
        | None
    ) = None


class StreamOptions(Lenient):
    """What is streamed beside the words."""

    include_usage: bool = False


class ResponseFormat(Lenient):
    """Only text is written."""

    type: Literal["text"] = "text"


class ChatBody(Lenient):
    """A talk. `k` and `where` are ravlm's own."""

    model_config = example(
        {
            "model": "ravlm",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is the animal in the picture?"},
                        {"type": "image_url", "image_url": {"url": PICTURE}},
                    ],
                }
            ],
        },
        strict=False,
    )
    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = 1
    tools: (
        Annotated[list[Any], Field(max_length=0, description="This server calls no tools.")] | None
    ) = None
    response_format: ResponseFormat | None = None
    k: K | None = None
    where: Where = None


class EmbeddingsBody(Lenient):
    """Texts and pictures to be made vectors of one space."""

    model_config = example(
        {"model": "ravlm", "input": ["a red boat", "a fluffy orange cat"]},
        {"model": "ravlm", "input": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
        strict=False,
    )
    model: str
    input: Words | Annotated[list[Words | Part], Field(min_length=1, max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = None


# responses


class Loose(BaseModel):
    """An object as OpenAI's reference describes it."""

    model_config = ConfigDict(extra="allow")


class MatchedPart(BaseModel):
    """What of the entry matched: its picture, or a passage of one of its texts."""

    modality: Literal["image", "text"]
    index: int
    text: str


class EntryFound(BaseModel):
    """An entry."""

    id: str
    texts: list[str]
    metadata: dict[str, Any]
    image_url: str | None


class HitFound(EntryFound):
    """An entry with its score (higher is better) and the part that matched."""

    score: float
    part: MatchedPart


class Hits(BaseModel):
    """Hits, best first."""

    hits: list[HitFound]


class AnswerFound(BaseModel):
    """An answer and what it rests on: `citations` are ids of entries of the `evidence`."""

    text: str
    citations: list[str]
    confidence: float
    abstained: bool
    evidence: list[HitFound]
    trace: dict[str, Any]


class EditFound(BaseModel):
    """The changed picture, where it was changed (white in `region`), and what was understood."""

    image: str
    region: str | None
    understood: str
    evidence: list[HitFound]


class Verified(BaseModel):
    """Whether the base is sound, and what was looked at."""

    model_config = ConfigDict(extra="allow")
    sound: bool


class Refused(BaseModel):
    """An entry that was not stored, and why."""

    id: str
    reason: str


class Added(BaseModel):
    """What was stored; `ids` in the order of the entries, those that were refused left out."""

    added: int
    updated: int
    unchanged: int
    ids: list[str]
    quarantined: list[Refused]


class EntryPage(BaseModel):
    """Entries in the order in which they came; `next` is the `after` of the next page, null at the
    end."""

    entries: list[EntryFound]
    total: int
    next: str | None


class Removed(BaseModel):
    """How many were there."""

    removed: int


class ErrorTold(BaseModel):
    """One sentence that says what is wrong and what to do."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorFound(BaseModel):
    """An error, in OpenAI's form."""

    error: ErrorTold
