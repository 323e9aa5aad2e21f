"""Stage 1: a vision tower from nothing tells in word vectors what it sees."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from llava_plus.model.scratch import build_model
from llava_plus.model.training.alignment import align_vision
from llava_plus.model.training.examples import Look
from llava_plus.training_data.embedded import EmbeddedSource
from PIL import Image
from transformers import LlavaProcessor

from .conftest import ARCHITECTURE


def looks(count: int, seed: int) -> list[Look]:
    """Plain images, and for half of them the side of a dark bar too."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        colour = rng.choice(("red", "blue"))
        image = Image.new("RGB", (32, 32), colour)
        answers = {"sign": colour}
        if number % 2:
            side = rng.choice(("dog", "car"))
            image.paste("black", (0, 0, 8, 32) if side == "dog" else (24, 0, 32, 32))
            answers["face"] = side
        made.append(Look(image, answers))
    return made


def test_what_images_show_is_learned_and_the_language_model_left_alone(
    processor: LlavaProcessor,
) -> None:
    torch.manual_seed(0)
    model = build_model(processor.tokenizer, ARCHITECTURE)
    before = {name: p.clone() for name, p in model.named_parameters()}
    shown, held_out = looks(256, seed=0), looks(64, seed=1)
    seen = align_vision(model, processor, shown, held_out, steps=150)
    assert seen == {"face": 1.0, "sign": 1.0}
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("vision_tower" in name or "projector" in name for name in changed)


@pytest.mark.parametrize("seed", [0, 1])
def test_scenes_tell_their_words(seed: int) -> None:
    source = EmbeddedSource(seed=seed, group_size=2, scenes=2, corpus_groups=1)
    scenes = source.looks(60, "align")
    words: dict[str, set[Any]] = {}
    for look in scenes:
        for asked, answer in look.answers.items():
            words.setdefault(asked, set()).add(answer)
    assert words["light"] == {"dark", "bright"}
    assert words["kind"] == {"drawing", "document", "chart", "photo"}
    assert words["shape"] == {"circle", "square", "triangle", "star", "cross"}
    assert words["count"] <= set("1234")
    assert [look.answers for look in source.looks(60, "align")] == [s.answers for s in scenes]
