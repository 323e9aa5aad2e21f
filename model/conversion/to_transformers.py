"""LLaVA's checkpoints, in any of their layouts, to a model of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...skills.backends.pretrained import numbers_called
from .assembling import assemble
from .chat import chat_template, generation_settings, style_of
from .configuring import model_config, processor
from .fitting import fitted
from .keys import NORM, to_hub, tower_of
from .layouts import recognise
from .origin import ORIGIN, TOKENIZER, Origin
from .tokens import add_words, copy_tokenizer, load_tokenizer, shown_image
from .towers import find_tower
from .writing import Report, digest, staged, write_weights

__all__ = ["Options", "convert_to_transformers"]


@dataclass(frozen=True)
class Options:
    """What a person may say of a conversion.

    `base` is the language model, or LLaVA, that a delta, a LoRA or a projector belongs to; `base`
    and `vision_tower` are folders or names on the hub. `chat` is one of the styles in `chat.py`.
    The rows of the vocabulary are filled up to a multiple of `pad_vocabulary`.
    """

    base: str | None = None
    vision_tower: str | None = None
    chat: str | None = None
    dtype: str | None = None
    shard_size: str = "5GB"
    pad_vocabulary: int = 1


def convert_to_transformers(
    source: Path,
    out: Path,
    options: Options | None = None,
    report: Report = lambda done, total: None,
) -> None:
    """Write the LLaVA in `source` to the new folder `out`, with processor and chat template.

    One shard is in memory at a time; `report` hears how many tensors are written, of how many.
    Raises `BadConfiguration` naming what is missing, unknown or does not fit, and `BadInput` when
    `out` is there already.
    """
    with staged(out) as folder:
        _convert(source, folder, options or Options(), report)


def _convert(source: Path, folder: Path, options: Options, report: Report) -> None:
    llava = assemble(recognise(source), options.base)
    settings = llava.settings
    style = style_of(options.chat, settings.mm_projector_type)
    tower = find_tower(options.vision_tower, settings.mm_vision_tower)
    tokenizer = load_tokenizer(llava.words)
    image = add_words(tokenizer, settings, llava.rows)
    multiple = options.pad_vocabulary
    grown = -(-max(llava.rows, len(tokenizer)) // multiple) * multiple
    config = model_config(llava, tower.config(), tokenizer, image=image, rows=grown)
    own = bool(tower_of(llava.state))
    weights = llava.state if own else llava.state | tower.weights()
    state = fitted(weights, config, settings.mm_projector_type)
    numbers = numbers_called(options.dtype) if options.dtype else state[NORM].read().dtype
    config.dtype = numbers
    told = {"mm_vision_tower": tower.name, **llava.config, **settings.model_dump(exclude_none=True)}
    origin = Origin(
        config=told,
        rows=llava.rows,
        grown=grown,
        tower=None if own else digest(tower_of(state), numbers),
    )
    setattr(config, ORIGIN, origin.model_dump())
    write_weights(
        to_hub(state), folder, dtype=numbers, shard_size=options.shard_size, report=report
    )
    config.save_pretrained(folder)
    generation_settings(style, tokenizer, image).save_pretrained(folder)
    template = chat_template(style, shown_image(settings))
    padded = settings.image_aspect_ratio == "pad"
    processor(config, tower, tokenizer, template, padded=padded).save_pretrained(folder)
    copy_tokenizer(llava.words, folder / TOKENIZER)
