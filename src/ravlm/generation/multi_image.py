"""Requests with several images: which generators read them, and one evidence for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from ravlm.generation.base import Generator, Request
from ravlm.records import Answer, Evidence, Hit


def decline_images(generator: Generator, request: Request) -> Answer | None:
    """Return an answer that declines a request with more images than the generator reads."""
    if not request.more_images or generator.reads_several_images:
        return None
    text = too_many_images(generator, len(request.images), request.chinese)
    return Answer(text, trace={"no answer": "too many images"})


def too_many_images(generator: Generator, num_images: int, chinese: bool = False) -> str:
    """Return the sentence that declines a message with several images."""
    if chinese:
        return (
            f"这条消息有 {num_images} 张图片，而生成器 {generator.name} 一次只能读一张。"
            "请逐张发送，或改用能读图的对话模型。"
        )
    return (
        f'The message has {num_images} pictures, but the generator "{generator.name}" reads one. '
        "Send them one by one, or use a chat model that reads pictures."
    )


def merge_evidence(sources: Sequence[Evidence], k: int) -> Evidence:
    """Merge the evidence of several images: the best hit of each, then the second best ...

    Images that the base does not know add nothing, unless it knows none of them.
    """
    if len(sources) == 1:
        return sources[0]
    known = [source for source in sources if source.sufficient] or list(sources[:1])
    best = max(known, key=lambda source: source.support)
    ranked = [hit for row in zip_longest(*(source.hits for source in known)) for hit in row]
    hits: dict[str, Hit] = {}
    for hit in ranked:
        if hit is not None:
            hits.setdefault(hit.entry.id, hit)
    kept = list(hits.values())[:k]
    weights = tuple(sum(_weight(source, hit) for source in known) / len(known) for hit in kept)
    return replace(
        best,
        hits=tuple(kept),
        weights=weights if all(source.weights for source in known) else (),
        trace={**best.trace, "images": len(sources), "known images": len(known)},
    )


def _weight(source: Evidence, hit: Hit) -> float:
    """Return the weight of the entry of `hit` in a source that may not have it."""
    pairs = zip(source.hits, source.weights, strict=False)
    return next((weight for other, weight in pairs if other.entry.id == hit.entry.id), 0.0)
