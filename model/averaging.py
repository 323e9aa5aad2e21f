"""The mean of several models that were trained one from another.

Weights that go on from a common ancestor lie in one basin, and their mean does often better than
each of them, at the cost of one (Wortsman et al. 2022, model soups; Izmailov et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from ..skills.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["average_into"]


@torch.no_grad()
def average_into(model: PreTrainedModel, others: Iterable[PreTrainedModel]) -> None:
    """Give `model` the mean of its own weights and those of `others`.

    Each counts the same. Raises `BadConfiguration` when one of them has other weights than `model`;
    nothing is changed then.
    """
    weights = model.state_dict()
    total = {key: value.double() for key, value in weights.items() if value.is_floating_point()}
    count = 1
    for other in others:
        theirs = other.state_dict()
        if strange := weights.keys() ^ theirs.keys() or _unlike(weights, theirs):
            raise BadConfiguration(f"models of one kind can be averaged: see {min(strange)}")
        for key, value in total.items():
            value += theirs[key].double()
        count += 1
    for key, value in total.items():
        weights[key].copy_(value / count)


def _unlike(weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> set[str]:
    return {key for key, value in weights.items() if value.shape != others[key].shape}
