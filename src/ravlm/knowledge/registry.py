"""Which back end keeps a base: an address of Milvus, or else a folder. Knows no more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ravlm.data.images import is_address
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.knowledge.backend import Backend
from ravlm.knowledge.local.backend import LocalBackend

if TYPE_CHECKING:
    import os

SCHEMES = ("milvus", "milvuss", "milvus-lite")


def backend_of(path: str | os.PathLike[str]) -> type[Backend]:
    """What opens and makes the base at `path`. Raises InvalidInput for an address of another
    kind."""
    if not is_address(path):
        return LocalBackend
    scheme = str(path).partition(":")[0].lower()
    if scheme not in SCHEMES:
        raise InvalidInput(
            f'"{path}" is an address of the kind "{scheme}"; a knowledge base lies in a folder or at an address as '
            f"milvus://host:19530/name or milvus-lite://file.db/name.{did_you_mean(scheme, SCHEMES)}"
        )
    from ravlm.knowledge.milvus.backend import MilvusBackend

    return MilvusBackend
