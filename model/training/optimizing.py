"""What changes the weights: Muon for the matrices of the language layers, AdamW for all else.

Muon (Jordan et al. 2024) makes every step of a matrix orthogonal, so that all its directions learn
alike. It is for hidden matrices alone: word vectors, norms, the projector and the vision tower are
AdamW's. Muon's steps are scaled to the size of AdamW's (Liu et al. 2025), so one learning rate
does for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["Optimizers"]

_BETAS = (0.9, 0.98)


class Optimizers:
    """The optimisers of one model; `state_dict` and `load_state_dict` as torch's own have them."""

    def __init__(self, model: torch.nn.Module, *, weight_decay: float) -> None:
        layers: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                hidden = "language_model.layers." in name and parameter.ndim == 2
                (layers if hidden else others).append(parameter)
        # Weight decay on matrices only, as is usual.
        groups = [
            {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, betas=_BETAS, fused=True)
        muon = torch.optim.Muon(layers, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._all: tuple[torch.optim.Optimizer, ...] = (muon, adamw)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """Change the weights by their gradients."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What the optimisers remember, to go on with later."""
        return [optimizer.state_dict() for optimizer in self._all]

    def load_state_dict(self, states: Iterable[dict[str, Any]]) -> None:
        """Go on with what was remembered."""
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)
