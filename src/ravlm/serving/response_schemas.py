"""Response bodies, as the OpenAPI page shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ravlm.regions import RegionKind
from ravlm.serving.schemas import RegionBox


class OpenAIObject(BaseModel):
    """An object as described in the reference of the OpenAI API."""

    model_config = ConfigDict(extra="allow")


class PartResponse(BaseModel):
    """The part of an entry that matched: its image, or a passage of one of its texts. `box` is
    where it stands on the image: left, top, right, bottom, 0 to 1."""

    modality: Literal["image", "text"]
    index: int
    text: str
    box: RegionBox | None = None
    page: int | None = None


class RegionResponse(BaseModel):
    """What is written on an entry's image or page, and where. Without a confidence the text was
    not recognized but is in the file."""

    text: str
    kind: RegionKind
    box: RegionBox | None = None
    page: int | None = None
    confidence: float | None = None


class EntryContent(BaseModel):
    """An entry without its regions. `image_url` is where its image can be read, null if it has
    none."""

    id: str
    texts: list[str]
    metadata: dict[str, Any]
    image_url: str | None


class EntryResponse(EntryContent):
    """An entry. `image_url` is where its image can be read, null if it has none."""

    regions: list[RegionResponse] = []


class HitResponse(EntryContent):
    """An entry with its score (higher is better) and the part that matched."""

    score: float
    part: PartResponse
    relevance: float | None = None


class SearchResponse(BaseModel):
    """The hits, best first."""

    hits: list[HitResponse]


class SourceResponse(BaseModel):
    """What a citation points to: characters `start` to `end` of a part's text; null for an image
    or the whole text."""

    entry_id: str
    part: PartResponse
    start: int | None
    end: int | None


class AnswerResponse(BaseModel):
    """An answer with its evidence. `citations` are the ids of the entries it is based on, `sources`
    what each of them points to; `confidence` is the probability that it is right."""

    text: str
    citations: list[str]
    sources: list[SourceResponse]
    confidence: float
    abstained: bool
    evidence: list[HitResponse]
    trace: dict[str, Any]


class EditResponse(BaseModel):
    """The edited image, the changed region (white; null if nothing was changed), its share of the
    image, and how the instruction was understood."""

    image: str
    region: str | None
    understood: str
    changed: float
    evidence: list[HitResponse]


class VerifyResponse(BaseModel):
    """Whether the base is sound, and what was checked."""

    model_config = ConfigDict(extra="allow")
    sound: bool


class QuarantinedEntry(BaseModel):
    """An entry that could not be stored, and why."""

    id: str
    reason: str


class AddResponse(BaseModel):
    """What was stored. `ids` are in the order of the request, without quarantined entries."""

    added: int
    updated: int
    unchanged: int
    ids: list[str]
    quarantined: list[QuarantinedEntry]


class EntryPageResponse(BaseModel):
    """Entries, without their regions, in the order in which they were added. `next` is the `after`
    of the next page, null on the last one."""

    entries: list[EntryContent]
    total: int
    next: str | None


class RemoveResponse(BaseModel):
    """The number of entries that were removed, and the ids that have none."""

    removed: int
    missing: list[str] = []


class ErrorDetail(BaseModel):
    """One sentence: what is wrong and what to do."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """An error in the form of the OpenAI API."""

    error: ErrorDetail
