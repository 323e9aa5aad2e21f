"""The names of LLaVA's weights in every layout, in one table.

Here weights go by the names that they have in transformers' `LlavaForConditionalGeneration`
(5.23); all other layouts are read into these, and LLaVA's own is written from them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...skills.errors import BadConfiguration
from .state import State

__all__ = [
    "EMBEDDINGS",
    "HEAD",
    "NORM",
    "PROJECTOR",
    "PROJECTORS",
    "TOWER",
    "from_clip",
    "from_llava",
    "from_transformers",
    "llava_name",
    "to_hub",
    "to_llava",
    "tower_of",
    "unwrapped",
]

EMBEDDINGS = "model.language_model.embed_tokens.weight"
NORM = "model.language_model.norm.weight"
HEAD = "lm_head.weight"
TOWER = "model.vision_tower."
PROJECTOR = "model.multi_modal_projector."

Table = Sequence[tuple[str, str]]
"""Beginnings of names and what stands in their place; the first that fits counts."""

PROJECTORS: dict[str, Table] = {
    "linear": (("model.mm_projector.", f"{PROJECTOR}linear_1."),),
    "mlp1x_gelu": (("model.mm_projector.0.", f"{PROJECTOR}linear_1."),),
    "mlp2x_gelu": (
        ("model.mm_projector.0.", f"{PROJECTOR}linear_1."),
        ("model.mm_projector.2.", f"{PROJECTOR}linear_2."),
    ),
}
"""LLaVA's types of projector that transformers can hold, and the names of their matrices."""

_LLAVA: Table = (
    ("model.vision_tower.vision_tower.vision_model.", TOWER),
    ("model.mm_projector.", "model.mm_projector."),
    ("model.", "model.language_model."),
)
_HUB: Table = (
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model.language_model."),
    ("multi_modal_projector.", PROJECTOR),
    ("vision_tower.vision_model.", TOWER),
)
"""What the published repositories of `llava-hf` say instead, and every engine reads."""

_OLDER: Table = (*_HUB, (f"{TOWER}vision_model.", TOWER), ("vision_tower.", TOWER))
"""What `save_pretrained`, and other repositories of earlier releases of transformers, say."""

_WRAPPED: Table = (
    ("base_model.model.", ""),
    ("module.", ""),
    ("mm_projector.", "model.mm_projector."),
)
"""What peft, data-parallel training and lone projectors make of LLaVA's names."""

_COMPUTED = re.compile(r"\.(?:rotary_emb\.inv_freq|embeddings\.position_ids)$")
"""Constants that earlier releases saved with the weights."""


def from_llava(state: State, projector: str) -> State:
    """LLaVA's names, with a projector of the given type."""
    return _renamed(state, (*PROJECTORS[projector], *_LLAVA))


def to_llava(state: State, projector: str) -> State:
    """LLaVA's names for a model with a projector of the given type."""
    return {llava_name(name, projector): tensor for name, tensor in state.items()}


def llava_name(name: str, projector: str) -> str:
    """What LLaVA calls one weight."""
    return _rename(name, [(new, old) for old, new in (*PROJECTORS[projector], *_LLAVA)])


def unwrapped(state: State) -> State:
    """LLaVA's plain names for weights that were saved by peft, or as a projector alone."""
    return _renamed(state, _WRAPPED)


def from_transformers(state: State) -> State:
    """The names in any release of transformers that has LLaVA."""
    return _renamed(state, _OLDER)


def to_hub(state: State) -> State:
    """The names of published repositories, which other engines take from files as they are."""
    table = [(new, old) for old, new in _HUB]
    return {_rename(name, table): tensor for name, tensor in state.items()}


def tower_of(state: State) -> State:
    """The weights of the vision tower."""
    return {name: tensor for name, tensor in state.items() if name.startswith(TOWER)}


def from_clip(state: State) -> State:
    """The vision tower of a CLIP, saved alone or with its text model, which is left out."""
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in state) else ""
    return _renamed(
        {name: state[name] for name in state if name.startswith(prefix)}, ((prefix, TOWER),)
    )


def _renamed(state: State, table: Table) -> State:
    found: State = {}
    for name, tensor in state.items():
        if _COMPUTED.search(name) is None:
            if (new := _rename(name, table)) in found:
                raise BadConfiguration(f"{name} is there twice, under another name too")
            found[new] = tensor
    return found


def _rename(name: str, table: Table) -> str:
    for old, new in table:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
