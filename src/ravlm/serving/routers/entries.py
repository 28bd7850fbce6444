"""The entries of the base over HTTP: add, look at, list, change, remove; and their pictures.

Pictures come as data URLs or as a bare body, never as a path, and are encoded anew before the base
keeps them. Checks and translates; the engine does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ravlm.data.images import image_bytes, is_address
from ravlm.errors import InvalidInput
from ravlm.knowledge.reports import AddReport
from ravlm.records import Entry, ImageSource
from ravlm.serving import schemas
from ravlm.serving.engine import Engine, entry_of
from ravlm.serving.errors import Json, NotFoundError
from ravlm.serving.routers.common import add, base_of
from ravlm.serving.state import Session
from ravlm.serving.wire import entry_json

Edge = Annotated[
    int,
    Query(ge=16, le=2048, description="The longer edge of the picture that is sent, in pixels."),
]
PageSize = Annotated[int, Query(ge=1, le=schemas.MOST_PAGE)]
After = Annotated[str, Query(max_length=64)]
WhereText = Annotated[str | None, Query(max_length=2000)]
_PICTURE = {"description": "The picture", "content": {"image/jpeg": {"schema": {"type": "string"}}}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png")
        },
    }
}


def entry_routes(engine: Engine) -> APIRouter:
    """The routes over an engine."""
    routes, do = APIRouter(tags=["entries"]), _Entries(engine)
    one, image = "/v1/entries/{id:path}", "/v1/images/{id:path}"
    add(routes, "POST", "/v1/entries", do.add_entries, schemas.Added)
    add(routes, "GET", "/v1/entries", do.list_entries, schemas.EntryPage)
    add(routes, "POST", "/v1/entries/remove", do.remove_entries, schemas.Removed)
    add(routes, "GET", one, do.get_entry, schemas.EntryFound, also=(404,))
    add(routes, "PUT", one, do.put_entry, schemas.Added, also=(404,))
    add(routes, "PATCH", one, do.change_entry, schemas.Added, also=(404,))
    add(routes, "DELETE", one, do.remove_entry, schemas.Removed, also=(404,))
    add(routes, "GET", image, do.get_image, _PICTURE, also=(404,), response_class=Response)
    add(routes, "PUT", image, do.put_image, schemas.Added, also=(404,), openapi_extra=_UPLOAD)
    return routes


class _Entries:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add_entries(self, body: schemas.EntriesBody | schemas.NewEntry) -> Response:
        """Add an entry, or up to 64 at once; one whose id is there is replaced. What can't be
        stored is told with its reason, and the rest is stored."""
        given = body.entries if isinstance(body, schemas.EntriesBody) else [body]
        _check_content(given)
        images = [await self._kept(new.image) for new in given]
        return await self._add(
            [
                entry_of(new.id or "", i, new.all_texts, new.metadata)
                for new, i in zip(given, images, strict=True)
            ]
        )

    async def list_entries(
        self, request: Request, limit: PageSize = 50, after: After = "", where: WhereText = None
    ) -> Response:
        """Entries, a page at a time: `after` is the `next` of the page before."""

        def work(opened: Session) -> dict[str, Any]:
            page = opened.kb.page(limit, after, where)
            shown = [entry_json(entry, base_of(request)) for entry in page.entries]
            return {"entries": shown, "total": opened.kb.count(where), "next": page.next or None}

        return Json(await self._engine.read(work))

    async def remove_entries(self, body: schemas.IdsBody) -> Response:
        """Remove up to 1,000 entries by their ids."""
        return Json(
            {"removed": await self._engine.change(lambda opened: opened.kb.remove(body.ids))}
        )

    async def get_entry(self, id: str, request: Request) -> Response:
        """An entry."""
        return Json(entry_json(await self._one(id), base_of(request)))

    async def put_entry(self, id: str, body: schemas.EntryBody) -> Response:
        """Add an entry under this id, or replace the one that is there."""
        _check_id(id)
        _check_content([body])
        return await self._add(
            [entry_of(id, await self._kept(body.image), body.all_texts, body.metadata)]
        )

    async def change_entry(self, id: str, body: schemas.ChangeBody) -> Response:
        """Change what is given of an entry; the rest stays as it is."""
        image = await self._kept(body.image)

        def work(opened: Session) -> tuple[AddReport, Entry]:
            found = opened.kb.get(id)
            if not found:
                raise NotFoundError("There is no entry of this id; PUT adds one.")
            old = found[0]
            texts = old.texts if body.texts is None else tuple(body.texts)
            metadata = old.metadata if body.metadata is None else body.metadata
            changed = Entry(old.id, image or _own_picture(old, opened), texts, metadata)
            return opened.kb.add([changed]), changed

        report, changed = await self._engine.change(work)
        return Json(_added(report, [changed]))

    async def remove_entry(self, id: str) -> Response:
        """Remove an entry."""
        if not (removed := await self._engine.change(lambda opened: opened.kb.remove([id]))):
            raise NotFoundError("There is no entry of this id.")
        return Json({"removed": removed})

    async def get_image(self, id: str, edge: Edge = 1024) -> Response:
        """The picture of an entry, as a JPEG."""
        source = (await self._one(id)).image
        if source is None:
            raise NotFoundError("This entry has no picture.")

        def shown() -> bytes:
            pictures = self._engine.pictures
            data = pictures.bytes_of(str(source)) if is_address(source) else image_bytes(source)
            return pictures.shown(data, edge)

        data = await self._engine.decode(shown)
        return Response(
            data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"}
        )

    async def put_image(self, id: str, request: Request) -> Response:
        """Upload a picture, as the bare body: of a new entry, or instead of the one that an entry
        has."""
        _check_id(id)
        data = await request.body()
        image = await self._engine.decode(lambda: self._engine.pictures.to_keep(data))

        def work(opened: Session) -> tuple[AddReport, Entry]:
            old = next(iter(opened.kb.get(id)), Entry(id))
            changed = Entry(id, image, old.texts, old.metadata)
            return opened.kb.add([changed]), changed

        report, changed = await self._engine.change(work)
        return Json(_added(report, [changed]))

    async def _kept(self, image: str | None) -> bytes | None:
        """The bytes to keep of a picture given by its URL."""
        if image is None:
            return None
        pictures = self._engine.pictures
        return await self._engine.decode(lambda: pictures.to_keep(pictures.bytes_of(image)))

    async def _add(self, entries: Sequence[Entry]) -> Response:
        report = await self._engine.change(lambda opened: opened.kb.add(list(entries)))
        return Json(_added(report, entries))

    async def _one(self, identity: str) -> Entry:
        found = await self._engine.read(lambda opened: opened.kb.get(identity))
        if not found:
            raise NotFoundError(
                "There is no entry of this id; GET /v1/entries lists those that are there."
            )
        return found[0]


def _check_id(identity: str) -> None:
    if not identity.strip() or len(identity) > schemas.MOST_ID:
        raise InvalidInput(
            f"An entry's id has 1 to {schemas.MOST_ID} characters that are not all blank."
        )


def _check_content(given: Sequence[schemas.EntryBody]) -> None:
    if not all(new.image is not None or new.all_texts for new in given):
        raise InvalidInput("An entry needs a picture or a text; give image, texts or both.")


def _own_picture(entry: Entry, opened: Session) -> ImageSource | None:
    """An entry's picture to be kept: one that lies within the base as its bytes, so that the base
    may be moved."""
    folder, image = opened.kb.path, entry.image
    inside = (
        isinstance(folder, Path) and isinstance(image, str) and Path(image).is_relative_to(folder)
    )
    return image_bytes(image) if inside and image is not None else image


def _added(report: AddReport, entries: Sequence[Entry]) -> dict[str, Any]:
    """What became of entries. Raises InvalidInput where none could be stored."""
    reasons = {item.place.partition(", ")[0]: item.reason for item in report.quarantined}
    refused = {
        place: reasons[f"entry {place + 1}"]
        for place in range(len(entries))
        if f"entry {place + 1}" in reasons
    }
    if len(refused) == len(entries):
        raise InvalidInput(f"Nothing could be stored: {next(iter(refused.values()))}")
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "ids": [entry.id for place, entry in enumerate(entries) if place not in refused],
        "quarantined": [
            {"id": entries[place].id, "reason": reason} for place, reason in refused.items()
        ],
    }
