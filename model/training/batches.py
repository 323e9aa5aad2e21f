"""From rendered conversations to tensors, without padding and without computing twice.

The conversations of a group open with the same tokens (their catalogue). A batch is one long
row of tokens: for every group that prefix once, then each conversation's own part, at the
positions it would have on its own. `shared_prefix_attention` lets a part look at its prefix and
at itself alone, so the loss is that of the conversations one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from ...skills.errors import BadInput
from ..rendering import Rendered
from .examples import Example

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Batch", "PackedGroup", "collate", "pack_group", "shared_prefix_attention"]


@dataclass(frozen=True)
class PackedGroup:
    """One sequence for several conversations; all lists have one entry a token.

    `lengths` are those of the shared prefix and of each conversation's own part; `targets` is
    the next token where it is learned, else -100.
    """

    ids: list[int]
    positions: list[int]
    lengths: list[int]
    targets: list[int]
    images: list[Image]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """Several packed groups as one row: tensors of (1, tokens), pixels (images, 3, height, width).

    `layout` has the lengths of the parts of every group: its prefix, then its conversations.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    pixels: torch.Tensor | None
    layout: list[list[int]]


def pack_group(examples: Sequence[Example], render: Callable[[Example], Rendered]) -> PackedGroup:
    """Lay out one group. Raises `BadInput` when a conversation has nothing to learn."""
    rendered = [render(example) for example in examples]
    for number, one in enumerate(rendered):
        if not any(one.learned):
            raise BadInput(f"conversation {number} of the group has no token to learn")
    shared = _shared_prefix(rendered) if len(rendered) > 1 else 0
    first = rendered[0]
    group = PackedGroup(
        ids=first.ids[:shared],
        positions=list(range(shared)),
        lengths=[shared],
        targets=[-100] * shared,
        images=[],
    )
    for one, example in zip(rendered, examples, strict=True):
        group.ids.extend(one.ids[shared:])
        group.positions.extend(range(shared, len(one.ids)))
        group.lengths.append(len(one.ids) - shared)
        following = zip(one.ids[shared + 1 :], one.learned[shared + 1 :], strict=True)
        group.targets.extend(token if learned else -100 for token, learned in following)
        group.targets.append(-100)
        group.images.extend(example.images[place.handle] for place in one.images)
    return group


def _shared_prefix(rendered: Sequence[Rendered]) -> int:
    """How many tokens all have in common: none of them learned, none of an image."""
    shortest = min(rendered, key=lambda one: len(one.ids))
    limit = next(i for i, learned in enumerate(shortest.learned) if learned) - 1
    limit = min([limit, *(place.start for one in rendered for place in one.images)])
    first = rendered[0].ids
    for index in range(max(limit, 0)):
        if any(one.ids[index] != first[index] for one in rendered[1:]):
            return index
    return max(limit, 0)


def collate(groups: Sequence[PackedGroup], pixels: Callable[[list[Image]], torch.Tensor]) -> Batch:
    """Put packed groups into one batch, one after the other."""

    def row(values: Iterable[list[int]]) -> torch.Tensor:
        return torch.tensor([list(chain.from_iterable(values))])

    images = [image for group in groups for image in group.images]
    return Batch(
        ids=row(group.ids for group in groups),
        positions=row(group.positions for group in groups),
        targets=row(group.targets for group in groups),
        pixels=pixels(images) if images else None,
        layout=[group.lengths for group in groups],
    )


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    layout: list[list[int]],
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within every part and from it to its group's prefix, part by part.

    `query`, `key` and `value` are (1, heads, tokens, width), the last two maybe of fewer heads;
    the result is (1, tokens, heads, width), as transformers wants it.
    """
    sharing = query.shape[1] // key.shape[1]
    if sharing > 1:
        key, value = key.repeat_interleave(sharing, 1), value.repeat_interleave(sharing, 1)
    lengths = [length for group in layout for length in group]
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = []
    for group in layout:
        prefix_key, prefix_value = key[:, :, :0], value[:, :, :0]
        for number, length in enumerate(group):
            q, k, v = next(parts)
            if number == 0:
                prefix_key, prefix_value = k, v
            else:
                k, v = torch.cat([prefix_key, k], dim=2), torch.cat([prefix_value, v], dim=2)
            bias = _causal(length, k.shape[2], query.dtype, query.device)
            scores = torch.add(bias, q @ k.transpose(-1, -2), alpha=scaling or q.shape[-1] ** -0.5)
            weights = functional.dropout(scores.softmax(dim=-1), dropout)
            outputs.append(weights @ v)
    return torch.cat(outputs, dim=2).transpose(1, 2), None


@lru_cache(maxsize=4096)
def _causal(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zero where a part's token may look (at the prefix, and back at its own part), else -inf."""
    seen = torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)
    return torch.zeros(rows, columns, dtype=dtype, device=device).masked_fill(~seen, -torch.inf)


AttentionInterface.register("shared_prefix", shared_prefix_attention)
