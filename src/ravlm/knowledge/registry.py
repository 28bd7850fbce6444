"""The backends by address scheme. To add one, add a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ravlm.data.addresses import hide_password
from ravlm.data.images import is_address
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.knowledge.backend import Backend
from ravlm.knowledge.local.backend import LocalBackend
from ravlm.knowledge.milvus.backend import MilvusBackend

if TYPE_CHECKING:
    import os

BACKENDS: dict[str, type[Backend]] = {
    "milvus": MilvusBackend,
    "milvuss": MilvusBackend,
    "milvus-lite": MilvusBackend,
}
"""By the scheme of an address; a path without a scheme is a folder."""


def backend_for(path: str | os.PathLike[str]) -> type[Backend]:
    """Return the backend for a path. Raises InvalidInput for an address of an unknown scheme."""
    if not is_address(path):
        return LocalBackend
    scheme = str(path).partition(":")[0].lower()
    if scheme not in BACKENDS:
        raise InvalidInput(
            f'"{hide_password(path)}" has the unknown scheme "{scheme}"; a knowledge base is a '
            "folder or an address such as milvus://host:19530/name or milvus-lite://file.db/name."
            f"{did_you_mean(scheme, BACKENDS)}"
        )
    return BACKENDS[scheme]
