"""The model that a fine-tuning run starts from, and what of it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch

from ...skills.errors import BadConfiguration
from ..chat_template import telling_tool_images
from ..loading import load_model, load_processor
from ..shipped import weights_of
from .freezing import Part, add_lora, freeze, part_of
from .recipe import FineTune

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["prepare_model", "start_model", "start_processor"]


def start_processor(recipe: FineTune) -> ProcessorMixin:
    """The processor, with the chat template and the images in results that the recipe asks for.

    Raises `BadConfiguration` when there is no such model or chat style.
    """
    from ..conversion.chat import chat_template, style_of

    name = weights_of(recipe.start_from)
    try:
        processor = load_processor(name)
    except (OSError, ValueError, ImportError) as error:
        raise BadConfiguration(f"start_from: {name!r} cannot be loaded: {error}") from error
    if recipe.chat:
        image = getattr(processor, "image_token", None)
        if not isinstance(image, str):
            raise BadConfiguration(f"chat: {name!r} is no LLaVA, whose styles these are")
        processor.chat_template = chat_template(style_of(recipe.chat, ""), image)
    template = processor.chat_template or processor.tokenizer.chat_template
    if recipe.tool_images is not None and isinstance(template, str):
        # The finished model is served by its own template, which has to tell.
        processor.chat_template = telling_tool_images(template, recipe.tool_images)
    return processor


def start_model(recipe: FineTune, device: torch.device, *, exact: bool = False) -> PreTrainedModel:
    """The model on `device`; with `exact` not quantised, whatever the recipe says.

    It is kept in float32 where all of its language model learns, else in the run's precision.
    Raises `BadConfiguration` when it cannot be loaded.
    """
    whole = "language" in recipe.learning_rates and not recipe.lora
    numbers = "float32" if whole else recipe.precision
    if recipe.quantized and recipe.lora and not exact:
        return _quantized(weights_of(recipe.start_from), device, numbers, recipe.lora.parts)
    return load_model(weights_of(recipe.start_from), device=str(device), dtype=numbers)[0]


def prepare_model(model: PreTrainedModel, recipe: FineTune) -> PreTrainedModel | PeftModel:
    """Freeze what does not learn, in the run's precision, add adapters, renew the projector.

    What learns is in float32 from here on. Raises `BadConfiguration`, as `freeze` does.
    """
    torch.manual_seed(recipe.seed)
    if recipe.new_projector:
        for name, module in model.named_modules():
            if part_of(name) == "projector" and isinstance(module, _Resettable):
                module.reset_parameters()
    adapted: set[Part] = set(recipe.lora.parts) if recipe.lora else set()
    if recipe.precision == "bfloat16":
        for name, parameter in model.named_parameters():
            if part_of(name) not in recipe.learning_rates and parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
    if set(recipe.learning_rates) - adapted or not recipe.lora:
        rates = {part: rate for part, rate in recipe.learning_rates.items() if part not in adapted}
        freeze(model, rates, recipe.frozen)
    else:
        model.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if not recipe.lora:
        return model
    if recipe.gradient_checkpointing:
        # Otherwise nothing before the first adapter has a gradient to hand on.
        model.enable_input_require_grads()
    return add_lora(model, recipe.lora)


@runtime_checkable
class _Resettable(Protocol):
    """A layer of torch that can draw its weights anew."""

    def reset_parameters(self) -> None: ...


def _quantized(
    name: str, device: torch.device, numbers: str, parts: tuple[Part, ...]
) -> PreTrainedModel:
    """The model with the linear layers of some parts in NF4, doubly quantised, as QLoRA has it."""
    from importlib.util import find_spec

    from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise BadConfiguration(
            "quantized: nf4 needs the package bitsandbytes (pip install 'llava-plus[qlora]')"
        )
    settings: Any = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, numbers),
    )
    try:
        with torch.device("meta"):
            config: Any = AutoConfig.from_pretrained(name)
            plan = AutoModelForImageTextToText.from_config(config)
        # What has no adapters stays as it is, the head over the words among it.
        settings.llm_int8_skip_modules = [
            name
            for name, module in plan.named_modules()
            if isinstance(module, torch.nn.Linear)
            and (part_of(name) not in parts or module is plan.get_output_embeddings())
        ]
        model = AutoModelForImageTextToText.from_pretrained(
            name, quantization_config=settings, dtype=numbers, device_map={"": str(device)}
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise BadConfiguration(f"{name!r} cannot be loaded in four bits: {error}") from error
    return cast("PreTrainedModel", model)
