"""Random weights for models of ultralytics that tell one place in a picture from another."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["randomise"]


def randomise(model: Any, *, sure: float = -2.0) -> None:
    """Give a model weights that keep signals as strong as they come in.

    As the library makes them, signals die out on the way. Scores lie around the sigmoid of `sure`.
    """
    for name, numbers in model.model.named_parameters():
        if numbers.ndim == 4 and "dfl" not in name:
            torch.nn.init.kaiming_normal_(numbers)
        if numbers.shape == (80,):
            torch.nn.init.normal_(numbers, mean=sure)
