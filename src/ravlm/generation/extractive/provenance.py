"""Recognize facts about the provenance of an entry: its rights, sources, files and ids.

Values decide where they can: addresses, file names, hashes and ids are never about the subject."""

from __future__ import annotations

import re

from ravlm.data.facts import Fact

_ADDRESS = re.compile(r"(?:https?|ftp)://|www\.|\bdoi\.org/|^\S+@\S+\.\w+$|^10\.\d{4,}/", re.I)
_FILE = re.compile(r"\S+\.(?:jpe?g|png|gif|webp|tiff?|bmp|svg|pdf|json|csv|txt|xml|html?)", re.I)
_PATH = re.compile(r"(?:[\w.-]*/){2,}[\w.-]*|[a-z]:\\\S*", re.I)
_HASH = re.compile(r"(?=[\da-f-]*\d)(?=[\da-f-]*[a-f])[\da-f]{8,}(?:-?[\da-f]{4,})*", re.I)
_ID = re.compile(r"(?:[A-Za-z]{1,4}[-_]?)?\d{7,}|[a-z]+[_-][a-z0-9_-]*\d{2,}[a-z0-9_-]*")
_QUALIFIERS = frozenset({
    "and", "at", "by", "code", "content", "data", "date", "entry", "file", "holder", "image",
    "info", "item", "line", "media", "notice", "of", "page", "photo", "picture", "record", "terms",
    "text", "the", "time", "type", "usage",
})  # fmt: skip
_PROVENANCE = frozenset({
    "accessed", "attribution", "checksum", "copyright", "crawled", "created", "credit", "credits",
    "dataset", "disclaimer", "doi", "filename", "folder", "generated", "group", "hash", "homepage",
    "id", "lang", "licence", "license", "link", "links", "md5", "modified", "path", "photographer",
    "reference", "retrieved", "rights", "sha256", "source", "sources", "split", "timestamp",
    "trademark", "uid", "updated", "uploaded", "uploader", "url", "uuid", "website",
})  # fmt: skip
"""Words of keys; a key of these and of `_QUALIFIERS` is about the entry."""
_CHINESE_PROVENANCE = re.compile(
    r"(?:图片|照片|图像|数据|文字|内容|资料)?(?:来源|出处|版权\w*|许可\w*|授权\w*|署名|摄影|摄影者|摄影师"
    r"|链接|网址|网站|编号|文件名?|路径|数据集|上传\w*|更新时间|创建时间|采集时间|哈希|校验码)"
)


def is_provenance(fact: Fact) -> bool:
    """Return whether a fact is about the entry's rights, source, files or ids.

    >>> is_provenance(Fact("Photo credit", "Ana Ruiz"))
    True
    >>> is_provenance(Fact("Light source", "a kerosene lamp"))
    False
    """
    value = fact.value.strip()
    patterns = (_FILE, _PATH, _HASH, _ID)
    if _ADDRESS.search(value) or any(pattern.fullmatch(value) for pattern in patterns):
        return True
    key = fact.key.strip()
    if _CHINESE_PROVENANCE.fullmatch(key):
        return True
    words = re.findall(r"[a-z0-9]+", key.lower())
    remainder = [word for word in words if word not in _QUALIFIERS]
    return bool(remainder) and all(word in _PROVENANCE for word in remainder)
