"""Packing: the same loss and gradients as the conversations one by one, each prefix once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.model.conversation import Conversation
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.scratch import build_model
from llava_plus.model.training.batches import Batch, PackedGroup, collate, pack_group
from llava_plus.model.training.examples import Example
from llava_plus.skills.errors import BadInput
from PIL import Image
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from .conftest import ARCHITECTURE
from .conversations import SPEC, conversations


@pytest.fixture(scope="module")
def model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    model = build_model(processor.tokenizer, ARCHITECTURE)
    model.model.language_model.set_attn_implementation("shared_prefix")
    return model


def example(conversation: Conversation) -> Example:
    colours = iter(
        [
            "red",
            "green",
            "blue",
            "yellow",
            "black",
            "white",
            "orange",
            "purple",
            "grey",
            "pink",
            "brown",
        ]
        * 9
    )
    images = {handle: Image.new("RGB", (32, 32), next(colours)) for handle in conversation.images}
    return Example(conversation.model_copy(update={"skills": (SPEC,)}), images)


def packed(renderer: ChatRenderer, examples: Sequence[Example]) -> PackedGroup:
    image = [renderer.tokenizer.convert_tokens_to_ids("<image>")] * 4
    return pack_group(examples, lambda e: renderer.training(e.conversation, lambda handle: image))


def batch_of(processor: LlavaProcessor, groups: Sequence[PackedGroup]) -> Batch:
    return collate(
        groups,
        lambda images: torch.as_tensor(
            processor.image_processor(images, return_tensors="pt")["pixel_values"]
        ),
    )


def loss(model: LlavaForConditionalGeneration, batch: Batch) -> torch.Tensor:
    hidden = model.model(
        input_ids=batch.ids,
        pixel_values=batch.pixels,
        attention_mask=torch.ones(1, 1, 1, 1),
        position_ids=batch.positions,
        layout=batch.layout,
        use_cache=False,
    ).last_hidden_state
    learned = batch.targets != -100
    logits = model.lm_head(hidden[learned])
    return functional.cross_entropy(logits, batch.targets[learned], reduction="sum")


@settings(max_examples=15, deadline=None)
@given(st.lists(conversations(), min_size=2, max_size=4))
def test_packed_is_the_same_as_one_by_one(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    renderer: ChatRenderer,
    several: list[Conversation],
) -> None:
    examples = [example(conversation) for conversation in several]
    together = loss(model, batch_of(processor, [packed(renderer, examples)]))
    apart = torch.stack(
        [loss(model, batch_of(processor, [packed(renderer, [one])])) for one in examples]
    ).sum()
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-4)


def test_attention_is_that_of_transformers(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, renderer: ChatRenderer
) -> None:
    from llava_plus.model.conversation import AssistantMessage

    one = example(Conversation().ask("where is the dog?").reply(AssistantMessage(text="there")))
    batch = batch_of(processor, [packed(renderer, [one])])
    ours = loss(model, batch)
    model.model.language_model.set_attn_implementation("sdpa")
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    model.model.language_model.set_attn_implementation("shared_prefix")
    learned = batch.targets != -100
    theirs = functional.cross_entropy(
        model.lm_head(hidden[learned]), batch.targets[learned], reduction="sum"
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@given(st.lists(conversations(), min_size=2, max_size=4))
def test_the_catalogue_is_computed_once(
    renderer: ChatRenderer, several: list[Conversation]
) -> None:
    examples = [example(conversation) for conversation in several]
    group = packed(renderer, examples)
    apart = [packed(renderer, [one]) for one in examples]
    learned = sum(target != -100 for target in group.targets)
    assert learned == sum(target != -100 for one in apart for target in one.targets)
    assert len(group) < sum(map(len, apart))
    assert sum(group.lengths) == len(group)


def test_nothing_to_learn_is_refused(renderer: ChatRenderer) -> None:
    with pytest.raises(BadInput, match="no token to learn"):
        packed(renderer, [example(Conversation().ask("hello"))])
