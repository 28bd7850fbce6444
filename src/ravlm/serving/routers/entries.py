"""Routes for the entries of the base and their images: add, read, list, change, remove.

Images arrive as data URLs or as the raw request body, never as paths, and are re-encoded before
they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ravlm.data import rows
from ravlm.data.images import image_bytes, is_address
from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.knowledge.images import portable_image
from ravlm.knowledge.reports import AddReport
from ravlm.records import Entry, ImageSource
from ravlm.regions import Region
from ravlm.serving import response_schemas, schemas
from ravlm.serving.engine import Engine
from ravlm.serving.errors import HttpError, JsonResponse, NotFoundError, hide_files
from ravlm.serving.logs import log
from ravlm.serving.routers.common import add_route, api_router, image_urls
from ravlm.serving.state import Session, make_entry

ThumbnailEdge = Annotated[
    int, Query(ge=16, le=2048, description="Longer edge of the returned image, in pixels.")
]
PageSize = Annotated[int, Query(ge=1, le=schemas.MAX_PAGE)]
PageStart = Annotated[str, Query(max_length=64)]
FilterText = Annotated[str | None, Query(max_length=2000)]
_DAMAGED_IMAGE = (
    "The image of this entry is missing or damaged on the server; `ravlm verify` names its file."
)
_UNFETCHED_IMAGE = "The image of this entry is at a web address from which it can't be fetched."
_IMAGE_RESPONSE = {
    "description": "The image",
    "content": {"image/jpeg": {"schema": {"type": "string"}}},
}
_IMAGE_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in ("image/jpeg", "image/png")
        },
    }
}


def entry_routes(engine: Engine) -> APIRouter:
    """Return the router over an engine."""
    router = api_router("Entries", engine)
    do = _EntryEndpoints(engine)
    entries, entry, image = "/v1/entries", "/v1/entries/{id:path}", "/v1/images/{id:path}"
    add = response_schemas.AddResponse
    remove = response_schemas.RemoveResponse
    add_route(router, "POST", entries, do.add_entries, add)
    add_route(router, "GET", entries, do.list_entries, response_schemas.EntryPageResponse)
    add_route(router, "POST", f"{entries}/remove", do.remove_entries, remove)
    add_route(router, "GET", entry, do.get_entry, response_schemas.EntryResponse, also=(404,))
    add_route(router, "PUT", entry, do.put_entry, add, also=(404,))
    add_route(router, "PATCH", entry, do.change_entry, add, also=(404,))
    add_route(router, "DELETE", entry, do.remove_entry, remove, also=(404,))
    add_route(
        router, "GET", image, do.get_image, _IMAGE_RESPONSE, also=(404,), response_class=Response
    )
    add_route(router, "PUT", image, do.put_image, add, also=(404,), openapi_extra=_IMAGE_REQUEST)
    return router


class _EntryEndpoints:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add_entries(self, body: schemas.NewEntries) -> Response:
        """Add one entry, or up to 64. An entry with an existing id replaces the old one. Entries
        that can't be stored are listed in `quarantined`; the others are stored."""
        bodies = body.entries if isinstance(body, schemas.EntriesBody) else [body]
        _check_content(bodies)
        return await self._add(bodies, [new.id or "" for new in bodies])

    async def list_entries(
        self,
        request: Request,
        limit: PageSize = 50,
        after: PageStart = "",
        where: FilterText = None,
    ) -> Response:
        """List entries page by page: `after` is the `next` of the previous page."""
        image_url = image_urls(request)

        def task(session: Session) -> dict[str, Any]:
            page = session.kb.page(limit, after, where)
            return {
                "entries": [entry.to_dict(image_url, regions=False) for entry in page.entries],
                "total": session.kb.count(where),
                "next": page.next or None,
            }

        return JsonResponse(await self._engine.read(task))

    async def remove_entries(self, body: schemas.IdsBody) -> Response:
        """Remove up to 1,000 entries by id."""
        return JsonResponse(await self._engine.change(lambda session: session.remove(body.ids)))

    async def get_entry(self, id: str, request: Request) -> Response:
        """Return an entry."""
        entry = await self._get(id)
        return JsonResponse(entry.to_dict(image_urls(request)))

    async def put_entry(self, id: str, body: schemas.EntryBody) -> Response:
        """Add an entry under this id, or replace the existing one."""
        _check_id(id)
        _check_content([body])
        return await self._add([body], [id])

    async def change_entry(self, id: str, body: schemas.EntryPatch) -> Response:
        """Change the given fields of an entry; the others stay as they are."""

        def task(session: Session, images: list[bytes | None]) -> tuple[AddReport, Entry]:
            entries = session.kb.get(id)
            if not entries:
                raise NotFoundError("There is no entry with this id; PUT adds one.")
            old = entries[0]
            texts = old.texts if body.texts is None else tuple(body.texts)
            metadata = old.metadata if body.metadata is None else body.metadata
            regions = _changed_regions(old, body)
            image = images[0] or _portable_image(old, session)
            new = Entry(old.id, image, texts, metadata, regions)
            return session.kb.add([new]), new

        report, new = await self._engine.store([body.image], task)
        return JsonResponse(_add_response(report, [new]))

    async def remove_entry(self, id: str) -> Response:
        """Remove an entry."""
        num_removed = await self._engine.change(lambda session: session.kb.remove([id]))
        if num_removed == 0:
            raise NotFoundError("There is no entry with this id.")
        return JsonResponse({"removed": num_removed})

    async def get_image(self, id: str, edge: ThumbnailEdge = 1024) -> Response:
        """Return the image of an entry, as a JPEG."""
        source = (await self._get(id)).image
        if source is None:
            raise NotFoundError("This entry has no image.")
        reader = self._engine.images.reader
        if is_address(source) and not self._engine.settings.fetch_images:
            raise NotFoundError(
                "The image of this entry is at a web address, and this server fetches none; to "
                "allow it, start the server with --fetch-images."
            )

        def read() -> bytes:
            return reader.read_bytes(str(source)) if is_address(source) else image_bytes(source)

        try:
            jpeg = await self._engine.thumbnail(read, edge)
        except (NotFound, BrokenData) as error:
            log("image fault", reason=str(error))
            if is_address(source):
                raise HttpError(502, _UNFETCHED_IMAGE) from None
            raise HttpError(500, _DAMAGED_IMAGE) from None
        headers = {"Cache-Control": "private, max-age=60"}
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    async def put_image(self, id: str, request: Request) -> Response:
        """Upload an image as the raw request body: for a new entry, or replacing the image of an
        existing one."""
        _check_id(id)
        data = await request.body()

        def task(session: Session, images: list[bytes | None]) -> tuple[AddReport, Entry]:
            old = next(iter(session.kb.get(id)), Entry(id))
            new = Entry(id, images[0], old.texts, old.metadata)
            return session.kb.add([new]), new

        report, new = await self._engine.store([data], task)
        return JsonResponse(_add_response(report, [new]))

    async def _add(self, bodies: Sequence[schemas.EntryBody], ids: Sequence[str]) -> Response:
        def task(session: Session, images: list[bytes | None]) -> tuple[AddReport, Sequence[Entry]]:
            entries = [
                make_entry(
                    id,
                    image,
                    new.all_texts,
                    new.metadata,
                    [region.to_region() for region in new.regions],
                )
                for id, image, new in zip(ids, images, bodies, strict=True)
            ]
            return session.kb.add(entries), entries

        report, entries = await self._engine.store([new.image for new in bodies], task)
        return JsonResponse(_add_response(report, entries))

    async def _get(self, entry_id: str) -> Entry:
        entries = await self._engine.read(lambda session: session.kb.get(entry_id))
        if not entries:
            raise NotFoundError(
                "There is no entry with this id; GET /v1/entries lists all of them."
            )
        return entries[0]


def _check_id(entry_id: str) -> None:
    """Raise InvalidInput or BrokenData for an id that is not stored: empty, long or refused."""
    if not entry_id or len(entry_id) > schemas.MAX_ID:
        raise InvalidInput(f"An entry id must have 1 to {schemas.MAX_ID} characters.")
    rows.entry_id(entry_id)


def _check_content(bodies: Sequence[schemas.EntryBody]) -> None:
    if not all(body.image is not None or body.all_texts or body.regions for body in bodies):
        raise InvalidInput("An entry needs an image or a text; give image, texts or both.")


def _changed_regions(old: Entry, body: schemas.EntryPatch) -> Sequence[Region]:
    """Return the regions of a changed entry: a new image drops those of the old one."""
    if body.regions is not None:
        return [region.to_region() for region in body.regions]
    return () if body.image is not None else old.regions


def _portable_image(entry: Entry, session: Session) -> ImageSource | None:
    """Return the entry's image in a form that stays valid if the base is moved."""
    folder = session.kb.path
    return portable_image(entry.image, folder) if isinstance(folder, Path) else entry.image


def _add_response(report: AddReport, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the response to adding `entries`. Raises InvalidInput if none could be stored."""
    reasons = {item.location.partition(", ")[0]: item.reason for item in report.quarantined}
    quarantined = {
        index: hide_files(reasons[f"entry {index + 1}"])
        for index in range(len(entries))
        if f"entry {index + 1}" in reasons
    }
    if len(quarantined) == len(entries):
        raise InvalidInput(f"Nothing could be stored: {next(iter(quarantined.values()))}")
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "ids": [entry.id for index, entry in enumerate(entries) if index not in quarantined],
        "quarantined": [
            {"id": entries[index].id, "reason": reason} for index, reason in quarantined.items()
        ],
    }
