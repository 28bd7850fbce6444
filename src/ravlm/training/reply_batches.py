"""Batches of prompts with the replies behind them, which are the only targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

IGNORED = -100
"""Label of positions without a loss."""
_TEXT_INPUTS = ("input_ids", "attention_mask")
_LENGTH_STEP = 32
"""Packed batches are padded to a multiple: few shapes, since oneDNN compiles a kernel for each."""

Replies = Sequence[Sequence[Sequence[int]]]
"""Token ids of the replies of each prompt, all with an end token."""


@dataclass(frozen=True)
class ReplyBatch:
    """Inputs of a network and its targets."""

    inputs: Mapping[str, Tensor]
    """With "input_ids" (n, tokens)."""
    labels: Tensor
    """The next token of each token (n, tokens); IGNORED where nothing is to be learned."""
    prompt_length: int
    """Tokens before the first one that predicts a reply's, in the row where they are fewest."""


def append_replies(inputs: Mapping[str, Tensor], replies: Replies) -> ReplyBatch:
    """Put the only reply of each prompt behind it, and pad on the right.

    `inputs` are a chat model's, padded on the left; all tensors of the shape of "input_ids"
    (n, tokens) are extended by 0, images stay as they are.
    """
    is_prompt = inputs["attention_mask"].bool()
    lengths = is_prompt.sum(1).tolist()
    tokens = max(length + len(row[0]) for length, row in zip(lengths, replies, strict=True))
    shape = inputs["input_ids"].shape
    batch = {
        name: tensor.new_zeros(len(lengths), tokens) if tensor.shape == shape else tensor
        for name, tensor in inputs.items()
    }
    labels = torch.full((len(lengths), tokens), IGNORED)
    for row, (length, (reply,)) in enumerate(zip(lengths, replies, strict=True)):
        end = length + len(reply)
        for name, tensor in inputs.items():
            if tensor.shape == shape:
                batch[name][row, :length] = tensor[row][is_prompt[row]]
        ids = torch.tensor(reply)
        batch["input_ids"][row, length:end] = ids
        batch["attention_mask"][row, length:end] = 1
        labels[row, length - 1 : end - 1] = ids
    return ReplyBatch(batch, labels, min(lengths) - 1)


def decoder_replies(inputs: Mapping[str, Tensor], replies: Replies) -> ReplyBatch:
    """Return the prompts as inputs of the encoder, and the only reply of each as the decoder's."""
    tokens = max(len(row[0]) for row in replies)
    labels = torch.full((len(replies), tokens), IGNORED)
    for row, (reply,) in enumerate(replies):
        labels[row, : len(reply)] = torch.tensor(reply)
    return ReplyBatch({**inputs, "labels": labels}, labels, 0)  # the network shifts the labels


def pack_replies(inputs: Mapping[str, Tensor], replies: Replies) -> ReplyBatch:
    """Put all replies of each prompt behind it. `inputs` are a chat model's, padded on the left.

    A reply sees its prompt and itself, but not the other replies, by a mask
    (n, 1, tokens, tokens); the positions of each continue the prompt's. The prompt's last token,
    which is to predict a reply's first, stands before each reply.
    """
    others = {name: tensor for name, tensor in inputs.items() if name not in _TEXT_INPUTS}
    prompts, prompt_mask = (inputs[name].cpu() for name in _TEXT_INPUTS)
    last = prompts[:, -1].tolist()
    replies = [[[t, *r] for r in row] for t, row in zip(last, replies, strict=True)]
    prompts, prompt_mask = prompts[:, :-1], prompt_mask[:, :-1]
    padding = -prompts.shape[1] % _LENGTH_STEP
    prompts = nn.functional.pad(prompts, (padding, 0))
    prompt_mask = nn.functional.pad(prompt_mask, (padding, 0)).bool()
    n, p = prompts.shape
    longest = max(sum(map(len, row)) for row in replies)
    tokens = p + longest + -longest % _LENGTH_STEP
    ids = torch.zeros(n, tokens, dtype=torch.long)
    ids[:, :p] = prompts
    labels = torch.full((n, tokens), IGNORED)
    segments = torch.full((n, tokens), -1)  # -1: padding, 0: prompt, 1 ...: replies
    segments[:, :p][prompt_mask] = 0
    positions = torch.zeros(n, tokens, dtype=torch.long)
    positions[:, :p] = (prompt_mask.cumsum(1) - 1).clamp(min=0)
    for row, row_replies in enumerate(replies):
        start, length = p, int(prompt_mask[row].sum())
        for number, reply in enumerate(row_replies, 1):
            end = start + len(reply)
            ids[row, start:end] = torch.tensor(reply)
            segments[row, start:end] = number
            positions[row, start:end] = length + torch.arange(len(reply))
            labels[row, start : end - 1] = ids[row, start + 1 : end]
            start = end
    masks = {"attention_mask": _visible(segments), "position_ids": positions}
    return ReplyBatch({"input_ids": ids, **masks, **others}, labels, p)


def _visible(segments: Tensor) -> Tensor:
    """Return which tokens see which, (n, 1, tokens, tokens): earlier ones of the prompt and of the
    same segment, and every token itself."""
    tokens = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    is_prompt = (segments == 0)[:, None, :]
    is_token = (segments >= 0)[:, None, :]
    earlier = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    visible = (same | is_prompt) & is_token & earlier
    return (visible | torch.eye(tokens, dtype=torch.bool))[:, None]
