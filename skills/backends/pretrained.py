"""Loading pre-trained models through transformers, by the name of a hub or a local folder."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import BadConfiguration

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["load_pretrained", "numbers_called"]


@cache
def load_pretrained(
    kind: str, name: str, device: str, dtype: str
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model `name` of the type `kind` (`sam`, as its configuration says) and its processor.

    Backends that ask for the same one share it. Of several types, `clip or siglip`, it may have
    any. Raises `BadConfiguration` when a package is missing, or the model is not there or of
    another type.
    """
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise BadConfiguration(
            f"the model {name!r} needs the packages of llava-plus[local]: {error}"
        ) from error
    numbers = numbers_called(dtype)
    logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        if config.model_type not in kind.split(" or "):
            raise BadConfiguration(f"the model {name!r} is a {config.model_type}, not a {kind}")
        processor = transformers.AutoProcessor.from_pretrained(name)
        architecture: Any = getattr(transformers, config.architectures[0])
        model = architecture.from_pretrained(name, dtype=numbers)
    except (OSError, ValueError, ImportError) as error:
        raise BadConfiguration(
            f"the model {name!r} cannot be loaded; give the name of one on the hub or a folder "
            f"with one as `model` in the settings: {error}"
        ) from error
    return model.to(device).eval(), processor


def numbers_called(dtype: str) -> torch.dtype:
    """The dtype of torch with a name. Raises `BadConfiguration` when there is none."""
    import torch

    numbers = getattr(torch, dtype, None)
    if not isinstance(numbers, torch.dtype):
        raise BadConfiguration(f"{dtype!r} is not a dtype of torch; try float32 or bfloat16")
    return numbers
