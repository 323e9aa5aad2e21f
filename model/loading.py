"""Loading any image-text model of transformers, with an error that says what is wrong."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..skills.backends.pretrained import numbers_called
from ..skills.errors import BadConfiguration
from .small_weights import FILE, open_small

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["load_model", "load_processor"]


def load_model(
    name: str, *, device: str, dtype: str | None
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load weights and processor by folder or hub name, onto `device`.

    Raises `BadConfiguration` when there is no such model or transformers cannot use it.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    kind = dtype or ("float32" if device == "cpu" else "auto")
    numbers: Any = kind if kind == "auto" else numbers_called(kind)
    if name.startswith(("/", "./", "../", "~")) and not Path(name).is_dir():
        raise BadConfiguration(f"there is no folder {name!r} to load a model from")
    try:
        processor = load_processor(name)
        if (Path(name) / FILE).is_file():
            model = open_small(AutoModelForImageTextToText, Path(name))
            if numbers != "auto":
                model.to(numbers)
        else:
            model = AutoModelForImageTextToText.from_pretrained(name, dtype=numbers)
    except (OSError, ValueError, ImportError) as error:
        what = "folder" if Path(name).is_dir() else "model name"
        raise BadConfiguration(f"the {what} {name!r} cannot be loaded: {error}") from error
    if not hasattr(processor, "tokenizer"):
        raise BadConfiguration(f"{name!r} has no processor for images and text, only a tokenizer")
    return model.to(torch.device(device)), processor  # type: ignore[arg-type]


def load_processor(name: str) -> ProcessorMixin:
    """The processor of a model; where torchvision is missing, without its part for videos.

    Raises `OSError`, `ValueError` or `ImportError` as transformers does.
    """
    import transformers
    from transformers import AutoProcessor, ProcessorMixin
    from transformers.utils.import_utils import is_torchvision_available

    if not is_torchvision_available():
        settings, _ = ProcessorMixin.get_processor_dict(name)
        kind = getattr(transformers, settings.get("processor_class", ""), None)
        if kind is not None and "video_processor" in inspect.signature(kind.__init__).parameters:
            return without_video(kind).from_pretrained(name)
    processor: ProcessorMixin = AutoProcessor.from_pretrained(name)
    return processor


def without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """A processor class for images and text alone.

    transformers reads the parts of a processor off the names in its `__init__`; one that does
    not name a `video_processor` loads the same folder without it.
    """

    def init(
        self: Any, image_processor: Any, tokenizer: Any, chat_template: str | None = None
    ) -> None:
        kind.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    return type(kind.__name__, (kind,), {"__init__": init})
