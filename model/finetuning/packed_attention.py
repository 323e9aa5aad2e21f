"""Attention over a row in which several conversations stand behind each other."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from ...skills.errors import BadConfiguration

__all__ = ["PACKED", "packed_attention"]

PACKED = "llava_plus_packed"
"""The name under which a model's language layers are told to use it."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    layout: list[list[int]],
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within every part of a row, and from a part to its group's opening.

    `layout` has, for every group of conversations, the lengths of the opening that they share
    and of each one's own part. `query`, `key` and `value` are (1, heads, tokens, width), the last
    two maybe of fewer heads; the result is (1, tokens, heads, width). Nothing of the size of the
    whole row squared is made. Raises `BadConfiguration` for a model whose attention has a cap on
    its scores or a sink.
    """
    if softcap is not None or s_aux is not None:
        raise BadConfiguration("this model's attention has a cap or a sink, so rows are not packed")
    lengths = [length for group in layout for length in group]
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = []
    for group in layout:
        opening_key, opening_value = key[:, :, :0], value[:, :, :0]
        for number, length in enumerate(group):
            q, k, v = next(parts)
            if number == 0:
                opening_key, opening_value = k, v
            elif group[0]:
                k, v = torch.cat([opening_key, k], dim=2), torch.cat([opening_value, v], dim=2)
            if length:
                outputs.append(_attend(q, k, v, scaling, dropout, sliding_window))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    """A part's tokens look at its opening and back at the part; `window` tokens far, if given."""
    rows, columns = query.shape[2], key.shape[2]
    mask = None
    if rows != columns or (window is not None and window < columns):
        mask = torch.ones(rows, columns, dtype=torch.bool, device=query.device)
        mask = mask.tril(columns - rows)
        if window is not None:
            mask = mask.triu(columns - rows - window + 1)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


AttentionInterface.register(PACKED, packed_attention)
