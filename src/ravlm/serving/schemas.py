"""Request bodies, as they are validated and as the OpenAPI page shows them.

Bodies of ravlm's own routes are strict: no unknown keys, no numbers in quotes. Those of the OpenAI
API are in `openai_schemas`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ravlm.data.data_urls import is_data_url
from ravlm.errors import did_you_mean
from ravlm.regions import Region, RegionKind
from ravlm.search.options import Method
from ravlm.serving.json_limits import (
    MAX_FILTER,
    MAX_METADATA,
    MAX_METADATA_KEYS,
    check_filter,
    check_metadata,
)

MAX_TEXT = 20_000
MAX_K = 100
MAX_INPUTS = 64
MAX_PAGE = 200
MAX_ID = 500
MAX_REGIONS = 5000
EXAMPLE_IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAFElEQVR4nG"
    "P8MNmGAQaYGJAAbg4AWQYBxwKRykYAAAAASUVORK5CYII="
)
"""A tiny orange image."""

_KEY = re.compile(r"[\w.-]{1,40}")


def _refuse_data_url(text: str) -> str:
    if is_data_url(text):
        raise PydanticCustomError("data_url", "This is an image as a data URL; send it as image")
    return text


NonBlankText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S"),
    AfterValidator(_refuse_data_url),
]
ImageUrl = Annotated[
    str, Field(min_length=5, description="Data URL of an image: data:image/jpeg;base64,...")
]
RegionBox = Annotated[
    list[float],
    Field(
        min_length=4,
        max_length=4,
        description="Left, top, right, bottom as shares of the image, 0 to 1.",
    ),
]
NumEvidence = Annotated[
    int, Field(ge=0, le=MAX_K, description="Entries to read as evidence; 0: closed book.")
]
EntryId = Annotated[str, Field(min_length=1, max_length=MAX_ID, pattern=r"\S")]
Filter = Annotated[
    str | dict[str, JsonValue] | None,
    BeforeValidator(check_filter),
    Field(
        description='Filter on metadata: {"split": "train"} or "year >= 1990 and '
        f'kind in [\\"bird\\"]"; at most {MAX_FILTER:,} characters.'
    ),
]
Metadata = Annotated[
    dict[str, JsonValue],
    BeforeValidator(check_metadata),
    Field(description=f"JSON of at most {MAX_METADATA:,} characters and {MAX_METADATA_KEYS} keys."),
]


class StrictBody(BaseModel):
    """A request body of ravlm's own routes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, body: Any) -> Any:
        unknown = [key for key in body if key not in cls.model_fields] if _is_object(body) else []
        if unknown:
            allowed = ", ".join(cls.model_fields)
            key, hint = "a key", ""
            if _KEY.fullmatch(unknown[0]):
                key = f'the key "{unknown[0]}"'
                hint = did_you_mean(unknown[0], cls.model_fields)
            raise PydanticCustomError(
                "unknown_key",
                "There is {key}, which is not known here.{hint} Allowed: {allowed}",
                {"key": key, "allowed": allowed, "hint": hint},
            )
        return body


def _is_object(body: Any) -> bool:
    return isinstance(body, dict) and all(isinstance(key, str) for key in body)


class OpenAIBody(BaseModel):
    """A request body in the form of the OpenAI API."""

    model_config = ConfigDict(extra="ignore", strict=True)


def with_examples(*bodies: dict[str, Any], strict: bool = True) -> ConfigDict:
    """Return the model config of a body with its examples."""
    extra: Literal["forbid", "ignore"] = "forbid" if strict else "ignore"
    return ConfigDict(extra=extra, strict=True, json_schema_extra={"examples": list(bodies)})


# knowledge


class SearchBody(StrictBody):
    """Search by text, by image, or by both."""

    model_config = with_examples({"text": "a fluffy orange cat", "k": 3, "modality": "image"})
    text: NonBlankText | None = None
    image: ImageUrl | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    modality: Literal["any", "image", "text"] = "any"
    where: Filter = None
    method: Annotated[Method, Field(description="Compare vectors, words (BM25), or fuse both.")] = (
        "dense"
    )
    min_score: Annotated[
        float | None, Field(allow_inf_nan=False, description="Drop hits below this score.")
    ] = None
    rerank: Annotated[
        Literal["exact"] | None, Field(description="Rank again by the stored vectors.")
    ] = None
    group_by: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="Keep one hit per value of this key."),
    ] = None
    relevance: Annotated[
        bool, Field(description="Add to each hit how far it is above random entries, 0 to 1.")
    ] = False


class AnswerBody(StrictBody):
    """Options of every verb that answers from the base."""

    k: NumEvidence | None = None
    where: Filter = None
    base_only: Annotated[
        bool,
        Field(description="Decline what the base does not support; else a model may go on alone."),
    ] = True
    stream: bool = False


class AskBody(AnswerBody):
    """A question, about an image or in text alone."""

    model_config = with_examples(
        {"question": "What is the animal in the picture?", "image": EXAMPLE_IMAGE, "k": 4}
    )
    question: NonBlankText
    image: ImageUrl | None = None


class CaptionBody(AnswerBody):
    """An image to describe."""

    model_config = with_examples({"image": EXAMPLE_IMAGE})
    image: ImageUrl


class TellBody(AnswerBody):
    """An image, a prompt, or both, for a short story."""

    model_config = with_examples({"prompt": "the harbor at night"})
    image: ImageUrl | None = None
    prompt: NonBlankText | None = None


class EditBody(StrictBody):
    """An image and an instruction that changes it."""

    model_config = with_examples({"image": EXAMPLE_IMAGE, "instruction": "make the sky blue"})
    image: ImageUrl
    instruction: NonBlankText
    k: NumEvidence | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class RegionBody(StrictBody):
    """What is written on an entry's image or page, and where."""

    model_config = with_examples({"text": "Total: 12.50", "box": [0.1, 0.8, 0.4, 0.82], "page": 1})
    text: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    box: RegionBox | None = None
    page: Annotated[int, Field(ge=1)] | None = None
    kind: RegionKind = "line"
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0

    def to_region(self) -> Region:
        """Return the region as a record. Raises InvalidInput for a box that is not one."""
        return Region.from_dict(self.model_dump())


class EntryBody(StrictBody):
    """The content of an entry: an image, texts, or both, metadata, and what is written on the
    image."""

    model_config = with_examples(
        {"texts": ["Name: tabby cat\nEyes: green"], "metadata": {"year": 2011}}
    )
    image: ImageUrl | None = None
    text: NonBlankText | None = None
    texts: Annotated[list[NonBlankText], Field(max_length=100)] = []
    metadata: Metadata = {}
    regions: Annotated[list[RegionBody], Field(max_length=MAX_REGIONS)] = []

    @property
    def all_texts(self) -> list[str]:
        """`text` followed by `texts`."""
        return [*([] if self.text is None else [self.text]), *self.texts]


class NewEntry(EntryBody):
    """An entry to add. Without an id it gets a hash of its content as id."""

    model_config = with_examples(
        {"id": "cat", "texts": ["a fluffy orange cat"], "metadata": {"year": 2011}}
    )
    id: EntryId | None = None


class EntriesBody(StrictBody):
    """Up to 64 entries to add. An entry with an existing id replaces the old one."""

    model_config = with_examples(
        {"entries": [{"id": "cat", "texts": ["a fluffy orange cat"], "metadata": {"year": 2011}}]}
    )
    entries: Annotated[list[NewEntry], Field(min_length=1, max_length=MAX_INPUTS)]


def _entry_form(body: Any) -> str:
    """Return the tag of a body of entries: a list of them, or a single one."""
    is_list = isinstance(body, EntriesBody) or (isinstance(body, dict) and "entries" in body)
    return "EntriesBody" if is_list else "NewEntry"


NewEntries = Annotated[
    Annotated[EntriesBody, Tag("EntriesBody")] | Annotated[NewEntry, Tag("NewEntry")],
    Discriminator(_entry_form),
]


class EntryPatch(StrictBody):
    """The fields of an entry to change; omitted fields stay as they are."""

    model_config = with_examples({"metadata": {"year": 2012}})
    image: ImageUrl | None = None
    texts: Annotated[list[NonBlankText], Field(max_length=100)] | None = None
    metadata: Metadata | None = None
    regions: Annotated[list[RegionBody], Field(max_length=MAX_REGIONS)] | None = None


class IdsBody(StrictBody):
    """Ids of entries."""

    model_config = with_examples({"ids": ["cat", "note-1"]})
    ids: Annotated[list[EntryId], Field(min_length=1, max_length=1000)]


class VerifyBody(StrictBody):
    """How many entries to re-encode in order to check their stored vectors."""

    model_config = with_examples({"sample": 16})
    sample: Annotated[int, Field(ge=1, le=1000)] = 16
