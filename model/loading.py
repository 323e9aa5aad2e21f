"""Loading any image-text model of transformers, with an error that says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..skills.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["load_model"]


def load_model(
    name: str, *, device: str, dtype: str | None
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load weights and processor by folder or hub name, onto `device`.

    Raises `BadConfiguration` when there is no such model or transformers cannot use it.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind: Any = dtype or ("float32" if device == "cpu" else "auto")
    if kind != "auto" and not isinstance(getattr(torch, kind, None), torch.dtype):
        raise BadConfiguration(f"{kind!r} is not a dtype of torch; try float32 or bfloat16")
    try:
        processor = AutoProcessor.from_pretrained(name)
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=kind)
    except (OSError, ValueError, ImportError) as error:
        what = "folder" if Path(name).is_dir() else "model name"
        raise BadConfiguration(f"the {what} {name!r} cannot be loaded: {error}") from error
    if not hasattr(processor, "tokenizer"):
        raise BadConfiguration(f"{name!r} has no processor for images and text, only a tokenizer")
    return model.to(device), processor
