"""The entries of the base over HTTP: add, look at, list, change, remove; and their pictures.

Pictures come as data URLs or as a bare body, never as a path, and are encoded anew before the base keeps them. Checks
and translates; the engine does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ravlm.data.images import image_bytes, is_address
from ravlm.errors import InvalidInput
from ravlm.knowledge.reports import AddReport
from ravlm.records import Entry
from ravlm.serving import schemas
from ravlm.serving.answering import base_of, errors
from ravlm.serving.engine import Engine, entry_of
from ravlm.serving.library import Opened
from ravlm.serving.refusals import Absent, Json
from ravlm.serving.wire import entry_json

Edge = Annotated[int, Query(ge=16, le=2048, description="The longer edge of the picture that is sent, in pixels.")]
PageSize = Annotated[int, Query(ge=1, le=schemas.MOST_PAGE)]
_PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/jpeg", "image/png")},
    }
}


def entry_routes(engine: Engine) -> APIRouter:
    """The routes over an engine."""
    routes = APIRouter(tags=["entries"])

    async def kept(image: str | None) -> bytes | None:
        """The bytes to keep of a picture given by its URL."""
        if image is None:
            return None
        return await engine.decode(lambda: engine.pictures.to_keep(engine.pictures.bytes_of(image)))

    async def add(entries: Sequence[Entry]) -> Response:
        report = await engine.change(lambda opened: opened.kb.add(list(entries)))
        return Json(_added(report, entries))

    async def one(identity: str) -> Entry:
        found = await engine.read(lambda opened: opened.kb.get(identity))
        if not found:
            raise Absent("There is no entry of this id; GET /v1/entries lists those that are there.")
        return found[0]

    @routes.post("/v1/entries", responses={200: {"model": schemas.Added}, **errors(504)})
    async def add_entries(body: schemas.EntriesBody | schemas.NewEntry) -> Response:
        """Add an entry, or up to 64 at once; one whose id is there is replaced. What can't be stored is told with its
        reason, and the rest is stored."""
        given = body.entries if isinstance(body, schemas.EntriesBody) else [body]
        if not all(new.image is not None or new.all_texts for new in given):
            raise InvalidInput("An entry needs a picture or a text; give image, texts or both.")
        images = [await kept(new.image) for new in given]
        entries = [
            entry_of(new.id or "", image, new.all_texts, new.metadata) for new, image in zip(given, images, strict=True)
        ]
        return await add(entries)

    @routes.get("/v1/entries", responses={200: {"model": schemas.EntryPage}, **errors(504)})
    async def list_entries(
        request: Request,
        limit: PageSize = 50,
        after: Annotated[str, Query(max_length=64)] = "",
        where: Annotated[str | None, Query(max_length=2000)] = None,
    ) -> Response:
        """Entries, a page at a time: `after` is the `next` of the page before."""

        def work(opened: Opened) -> dict[str, Any]:
            page = opened.kb.page(limit, after, where)
            shown = [entry_json(entry, base_of(request)) for entry in page.entries]
            return {"entries": shown, "total": opened.kb.count(where), "next": page.next or None}

        return Json(await engine.read(work))

    @routes.post("/v1/entries/remove", responses={200: {"model": schemas.Removed}, **errors(504)})
    async def remove_entries(body: schemas.IdsBody) -> Response:
        """Remove up to 1,000 entries by their ids."""
        return Json({"removed": await engine.change(lambda opened: opened.kb.remove(body.ids))})

    @routes.get("/v1/entries/{id:path}", responses={200: {"model": schemas.EntryFound}, **errors(404, 504)})
    async def get_entry(id: str, request: Request) -> Response:
        """An entry."""
        return Json(entry_json(await one(id), base_of(request)))

    @routes.put("/v1/entries/{id:path}", responses={200: {"model": schemas.Added}, **errors(504)})
    async def put_entry(id: str, body: schemas.EntryBody) -> Response:
        """Add an entry under this id, or replace the one that is there."""
        if not id.strip() or (body.image is None and not body.all_texts):
            raise InvalidInput("An entry needs an id, and a picture or a text; give image, texts or both.")
        return await add([entry_of(id, await kept(body.image), body.all_texts, body.metadata)])

    @routes.patch("/v1/entries/{id:path}", responses={200: {"model": schemas.Added}, **errors(404, 504)})
    async def change_entry(id: str, body: schemas.ChangeBody) -> Response:
        """Change what is given of an entry; the rest stays as it is."""
        image = await kept(body.image)

        def work(opened: Opened) -> tuple[AddReport, Entry]:
            found = opened.kb.get(id)
            if not found:
                raise Absent("There is no entry of this id; PUT adds one.")
            old = found[0]
            changed = Entry(
                old.id,
                image or _own(old, opened),
                old.texts if body.texts is None else tuple(body.texts),
                old.metadata if body.metadata is None else body.metadata,
            )
            return opened.kb.add([changed]), changed

        report, changed = await engine.change(work)
        return Json(_added(report, [changed]))

    @routes.delete("/v1/entries/{id:path}", responses={200: {"model": schemas.Removed}, **errors(404, 504)})
    async def remove_entry(id: str) -> Response:
        """Remove an entry."""
        if not (removed := await engine.change(lambda opened: opened.kb.remove([id]))):
            raise Absent("There is no entry of this id.")
        return Json({"removed": removed})

    @routes.get(
        "/v1/images/{id:path}",
        responses={200: {"content": {"image/jpeg": {}}, "description": "The picture"}, **errors(404, 504)},
        response_class=Response,
    )
    async def get_image(id: str, edge: Edge = 1024) -> Response:
        """The picture of an entry, as a JPEG."""
        source = (await one(id)).image
        if source is None:
            raise Absent("This entry has no picture.")

        def shown() -> bytes:
            if is_address(source):
                return engine.pictures.shown(engine.pictures.bytes_of(str(source)), edge)
            return engine.pictures.shown(image_bytes(source), edge)

        data = await engine.decode(shown)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=60"})

    @routes.put("/v1/images/{id:path}", responses={200: {"model": schemas.Added}, **errors(504)},
                openapi_extra=_PICTURE_BODY)  # fmt: skip
    async def put_image(id: str, request: Request) -> Response:
        """Upload a picture, as the bare body: of a new entry, or instead of the one that an entry has."""
        if not id.strip():
            raise InvalidInput("The picture needs an id: PUT /v1/images/ID.")
        data = await request.body()
        image = await engine.decode(lambda: engine.pictures.to_keep(data))
        found = await engine.read(lambda opened: opened.kb.get(id))
        old = found[0] if found else Entry(id)
        return await add([Entry(id, image, old.texts, old.metadata)])

    return routes


def _own(entry: Entry, opened: Opened) -> Any:
    """An entry's picture to be kept: one that lies within the base as its bytes, so that the base may be moved."""
    inside = isinstance(entry.image, str) and isinstance(opened.kb.path, Path)
    if inside and Path(str(entry.image)).is_relative_to(opened.kb.path):
        return image_bytes(str(entry.image))
    return entry.image


def _added(report: AddReport, entries: Sequence[Entry]) -> dict[str, Any]:
    """What became of entries. Raises InvalidInput where none could be stored."""
    reasons = {item.place.partition(", ")[0]: item.reason for item in report.quarantined}
    refused = {place: reasons[f"entry {place + 1}"] for place in range(len(entries)) if f"entry {place + 1}" in reasons}
    if len(refused) == len(entries):
        raise InvalidInput(f"Nothing could be stored: {next(iter(refused.values()))}")
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "ids": [entry.id for place, entry in enumerate(entries) if place not in refused],
        "quarantined": [{"id": entries[place].id, "reason": reason} for place, reason in refused.items()],
    }
