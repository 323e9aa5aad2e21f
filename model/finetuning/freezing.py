"""What of a model learns, and how fast: its projector, its vision tower, its language model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from ...skills.errors import BadConfiguration

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from .recipe import Lora

__all__ = ["Part", "add_lora", "freeze", "learned_parameters", "optimizer_groups", "part_of"]

Part = Literal["projector", "vision", "language"]

_PROJECTOR = re.compile(
    r"(^|\.)[^.]*(projector|connector|merger|aligner|qformer|query_tokens|(language|text)_projection)"
)
_VISION = re.compile(r"(^|\.)(visual|vision|image)(_[a-z]+)?(\.|$)")


def part_of(name: str) -> Part:
    """The part of an image-text model that a parameter or module belongs to, by its full name.

    Language is what is neither on the way from image to words nor before it. Families call these
    by names of their own, which all say what they are; a merger in the vision tower is Qwen-VL's
    projector.
    """
    outside = re.split(r"(?:^|\.)(?:language_model|text_model|layers)\.", name, maxsplit=1)[0]
    if _PROJECTOR.search(outside):
        return "projector"
    return "vision" if _VISION.search(outside) else "language"


def freeze(model: torch.nn.Module, rates: Mapping[Part, float], frozen: Sequence[str] = ()) -> None:
    """Let the parts with a learning rate learn, but for parameters whose name fits a pattern.

    Patterns are those of file names (`*.layers.0.*`). Raises `BadConfiguration` when a part has
    no parameters, a pattern fits none, or nothing is left to learn.
    """
    names = [name for name, _ in model.named_parameters()]
    for part in rates:
        if not any(part_of(name) == part for name in names):
            modules = ", ".join(sorted({".".join(name.split(".")[:2]) for name in names}))
            raise BadConfiguration(
                f"learning_rates: {type(model).__name__} has no {part} by name; it has {modules}"
            )
    for pattern in frozen:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadConfiguration(
                f"frozen: no parameter is named like {pattern!r}; one is {names[0]}"
            )
    for name, parameter in model.named_parameters():
        kept = any(fnmatchcase(name, pattern) for pattern in frozen)
        parameter.requires_grad_(part_of(name) in rates and not kept)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadConfiguration("frozen: these patterns leave nothing that learns")


def add_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """Adapters beside the linear layers of the parts that learn so, which are frozen themselves.

    The other parts keep what `freeze` said of them.
    """
    from peft import LoraConfig, get_peft_model

    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    head = model.get_output_embeddings()
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and part_of(name) in lora.parts
    ]
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=layers,
        modules_to_save=sorted(_tops(name for name in learning if part_of(name) == "projector")),
    )
    with warnings.catch_warnings():
        # peft 0.21 asks transformers by a name that 5.23 calls old.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        adapted = cast("PeftModel", get_peft_model(model, settings))
    for name, parameter in adapted.named_parameters():
        if "lora_" not in name and ".original_module." not in name:
            plain = plain_name(name)
            parameter.requires_grad_(plain in learning and part_of(plain) not in lora.parts)
    return adapted


def plain_name(name: str) -> str:
    """The name that a parameter has in the model without adapters."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")


def learned_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters that learn, by name."""
    return ((name, one) for name, one in model.named_parameters() if one.requires_grad)


def optimizer_groups(
    model: torch.nn.Module, rates: Mapping[Part, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimizer: a learning rate for each part, and decay for its matrices alone."""
    groups: dict[tuple[Part, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in learned_parameters(model):
        key = (part_of(plain_name(name)), parameter.ndim >= 2)
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rates[part],
            "weight_decay": weight_decay if matrices else 0.0,
        }
        for (part, matrices), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]


def _tops(names: Iterator[str]) -> set[str]:
    """The modules that stand highest among those of one part (`model.multi_modal_projector`)."""
    tops = set()
    for name in names:
        steps = name.split(".")
        tops.add(
            next(
                ".".join(steps[: end + 1])
                for end in range(len(steps))
                if part_of(".".join(steps[: end + 1])) == "projector"
            )
        )
    return tops
