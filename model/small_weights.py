"""Weights in a few bits: how the models that ship are kept small.

Matrices are stored as whole numbers with scales, a quarter or an eighth of their size in float32:
eight bits with one scale a row, or four bits with one for every 64 numbers, two in a byte. They
are floating point again once loaded; nothing is computed in few bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..skills.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "FILE",
    "LANGUAGE",
    "eight_bits",
    "four_bits",
    "load_small",
    "open_small",
    "restored",
    "rounded_weights",
    "save_small",
]

FILE = "small.safetensors"
LANGUAGE = re.compile(r"language_model\.(layers|embed_tokens)")
"""The matrices of a LLaVA that four bits are enough for."""
_SCALE = ".scale"
_GROUP = 64
_HEAD = "lm_head.weight"


def four_bits(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes from -8 to 7 in the shape of `weights`, and a scale for every 64 along its rows.

    The number farthest from zero in its group is kept (as in the Q4_0 of GGUF).
    """
    rows, columns = weights.shape
    groups = weights.reshape(rows, columns // _GROUP, _GROUP)
    farthest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    scales = (farthest / -8).half()
    safe = torch.where(scales == 0, torch.ones_like(scales), scales).float()
    codes = (groups / safe).round().clamp(-8, 7)
    return codes.reshape(rows, columns).to(torch.int8), scales.squeeze(-1)


def _from_four_bits(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    groups = codes.float().reshape(*scales.shape, _GROUP)
    return (groups * scales.float()[..., None]).reshape(codes.shape)


def _pack(codes: torch.Tensor) -> torch.Tensor:
    low, high = (codes + 8).to(torch.uint8).reshape(codes.shape[0], -1, 2).unbind(-1)
    return low | high << 4


def _unpack(packed: torch.Tensor) -> torch.Tensor:
    both = torch.stack([packed & 15, packed >> 4], dim=-1)
    return both.reshape(packed.shape[0], -1).to(torch.int8) - 8


def eight_bits(key: str, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """A matrix as it is stored under `key`: whole numbers to 127, and a scale for every row."""
    scale = weights.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return {key: (weights / scale).round().to(torch.int8), key + _SCALE: scale.half()}


def restored(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What was stored, in float32 again, by the names that the weights have in their model."""
    return {
        key: _restored(value, stored.get(key + _SCALE))
        for key, value in stored.items()
        if not key.endswith(_SCALE)
    }


def save_small(model: PreTrainedModel, folder: Path, coarse: re.Pattern[str]) -> None:
    """Write a model's configuration and weights; matrices whose names `coarse` finds in four bits.

    Other matrices get eight bits, all else sixteen. A head tied to the embeddings is left out.
    """
    from safetensors.torch import save_file

    small: dict[str, torch.Tensor] = {}
    for key, weights in model.state_dict().items():
        if not weights.is_floating_point():
            continue
        if weights.ndim != 2:
            small[key] = weights.half()
        elif key == _HEAD and model.config.tie_word_embeddings:
            continue
        elif _is_coarse(key, weights, coarse):
            codes, small[key + _SCALE] = four_bits(weights.float())
            small[key] = _pack(codes)
        else:
            small |= eight_bits(key, weights)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    save_file(small, folder / FILE)


def open_small(kind: Any, folder: Path) -> PreTrainedModel:
    """The model that `save_small` wrote, through an auto class of transformers such as `AutoModel`.

    Raises `BadConfiguration` as `load_small` does, and what transformers raises for a bad folder.
    """
    from transformers import AutoConfig, GenerationConfig
    from transformers.initialization import no_init_weights

    config = AutoConfig.from_pretrained(folder)
    with no_init_weights():  # drawing numbers that are overwritten takes longer than all the rest
        model: PreTrainedModel = kind.from_config(config)
    load_small(model, folder)
    if model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.eval()
    return model


def load_small(model: PreTrainedModel, folder: Path) -> None:
    """Put the weights that `save_small` wrote into a model of the same configuration.

    Raises `BadConfiguration` when the file is broken, or weights are missing or do not belong.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(folder / FILE)
    except SafetensorError as error:
        raise BadConfiguration(f"{folder / FILE} cannot be read: {error}") from error
    try:
        missing, unknown = model.load_state_dict(restored(stored), strict=False)
    except RuntimeError as error:
        raise BadConfiguration(f"{folder / FILE} fits another model: {error}") from error
    tied = {_HEAD} if model.config.tie_word_embeddings else set()
    if lost := {*missing, *unknown} - tied:
        raise BadConfiguration(f"{folder / FILE} fits another model: see {min(lost)}")
    model.tie_weights()


def _restored(value: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    if scale is None:
        return value.float()
    if value.dtype == torch.uint8:
        return _from_four_bits(_unpack(value), scale)
    return value.float() * scale.float()


def _is_coarse(key: str, weights: torch.Tensor, coarse: re.Pattern[str]) -> bool:
    return weights.ndim == 2 and weights.shape[1] % _GROUP == 0 and bool(coarse.search(key))


@contextmanager
def rounded_weights(model: torch.nn.Module, coarse: re.Pattern[str]) -> Iterator[None]:
    """Let the model compute, and get gradients, with the weights that four bits would leave it.

    The optimiser goes on with the exact ones: the gradient passes the rounding as if there were
    none (straight-through; Bengio et al. 2013). So a model learns to do well once it is stored.
    """
    exact: Mapping[torch.nn.Parameter, torch.Tensor] = {
        parameter: parameter.data
        for key, parameter in model.named_parameters()
        if _is_coarse(key, parameter, coarse)
    }
    try:
        for parameter, weights in exact.items():
            parameter.data = _from_four_bits(*four_bits(weights))
        yield
    finally:
        for parameter, weights in exact.items():
            parameter.data = weights
