"""A processor made from scratch on a few sentences: what the renderer's tests run on."""

from __future__ import annotations

import pytest
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.scratch import Architecture, build_processor, train_tokenizer
from llava_plus.model.shortlist import Likely
from transformers import LlavaProcessor

CORPUS = [
    " Found 2 dogs and 1 red car. See img_2. Made mask_1 (dog).",
    ' {"name": " detect", "arguments": {"labels": [" dog"], "image": " img_1"}}',
    " Where is the dog? Blur every face, please. What does the sign say?",
] * 3
ARCHITECTURE = Architecture(
    vocabulary=400, hidden=32, layers=2, heads=2, feed_forward=64, image_size=32, patch=16,
    vision_hidden=16, vision_layers=1, vision_heads=2,
)  # fmt: skip


@pytest.fixture(scope="session")
def processor() -> LlavaProcessor:
    return build_processor(train_tokenizer(CORPUS, ARCHITECTURE), ARCHITECTURE)


@pytest.fixture(scope="session")
def renderer(processor: LlavaProcessor) -> ChatRenderer:
    """With a shortlist, so that what stands behind a request is held to every promise too."""
    return ChatRenderer(processor, lambda said, skills, image: [Likely(s.name, 3) for s in skills])
