"""Whether what is computed quickly is what transformers computes, on the first records of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...skills.errors import BadConfiguration
from .packed_attention import PACKED
from .packed_rows import RowPacker

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .rows import Row

__all__ = ["check_loss", "set_attention"]

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""How far two ways to the same loss may lie apart, as a share of it."""


def set_attention(model: PreTrainedModel, name: str) -> str:
    """Give the language layers another attention (`PACKED` for packed rows); what they had."""
    language: Any = model.get_decoder()
    before: str = language.config._attn_implementation
    language.set_attn_implementation(name)
    return before


@torch.no_grad()
def check_loss(model: PreTrainedModel, packer: RowPacker, rows: Sequence[Row]) -> str | None:
    """Why the records cannot be packed into one row, or None when their loss stays the same.

    Raises `BadConfiguration` when already the loss at the learned places alone is not the one
    that transformers computes from the logits of all tokens.
    """
    model.eval()
    counts = [sum(row.learned) for row in rows]
    right = _mean([_loss(model, packer.reference(row)) for row in rows], counts)
    apart = _mean([_loss(model, packer.separate([row])) for row in rows], counts)
    tolerance = _TOLERANCE[model.dtype]
    if abs(apart - right) > tolerance * right:
        raise BadConfiguration(
            f"{type(model).__name__} cannot be fine-tuned: its loss is {apart:.5f} at the learned "
            f"places alone and {right:.5f} from all logits (logits_to_keep)"
        )
    before = set_attention(model, PACKED)
    try:
        packed = _loss(model, packer.pack(rows))
    except (BadConfiguration, TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        set_attention(model, before)
    if abs(packed - right) > tolerance * right:
        return f"the loss of the first records is {packed:.5f} in one row and {right:.5f} apart"
    return None


def _loss(model: PreTrainedModel, inputs: dict[str, Any]) -> float:
    moved = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
    return float(model(**moved).loss)


def _mean(losses: list[float], counts: list[int]) -> float:
    return sum(a * b for a, b in zip(losses, counts, strict=True)) / sum(counts)
