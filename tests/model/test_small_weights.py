"""Weights in few bits: near to the exact ones, small on disk, and whole when they come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.model.loading import load_model
from llava_plus.model.scratch import build_model
from llava_plus.model.small_weights import (
    FILE,
    LANGUAGE,
    four_bits,
    load_small,
    rounded_weights,
    save_small,
)
from llava_plus.skills.errors import BadConfiguration
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from .conftest import ARCHITECTURE

WIDE = ARCHITECTURE.model_copy(update={"hidden": 128, "heads": 2, "feed_forward": 192})


@pytest.fixture(scope="module")
def wide(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """A model whose language matrices are wide enough for groups of 64."""
    torch.manual_seed(0)
    return build_model(processor.tokenizer, WIDE)


@given(seed=st.integers(0, 2**32), spread=st.floats(1e-3, 1e3), rows=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_number_moves_by_a_step_at_most(seed: int, spread: float, rows: int) -> None:
    """Half a step, but a whole one at the end of the scale that has one code less."""
    weights = torch.randn(rows, 128, generator=torch.Generator().manual_seed(seed)) * spread
    codes, scales = four_bits(weights)
    assert codes.min() >= -8
    assert codes.max() <= 7
    steps = scales.float().abs().repeat_interleave(64, dim=1)
    restored = codes * scales.float().repeat_interleave(64, dim=1)
    assert ((restored - weights).abs() <= steps * 1.01).all()


def test_zeros_stay_zeros() -> None:
    codes, scales = four_bits(torch.zeros(2, 64))
    assert not codes.any()
    assert not scales.any()


def test_what_is_saved_small_computes_nearly_the_same(
    wide: LlavaForConditionalGeneration, processor: LlavaProcessor, tmp_path: Path
) -> None:
    save_small(wide, tmp_path, LANGUAGE)
    processor.save_pretrained(tmp_path)
    loaded, _ = load_model(str(tmp_path), device="cpu", dtype=None)
    ids = torch.arange(20, 60)[None]
    with torch.inference_mode():
        ours, theirs = wide(input_ids=ids).logits, loaded(input_ids=ids).logits
        with rounded_weights(wide, LANGUAGE):
            rounded = wide(input_ids=ids).logits
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=-1).min() > 0.9
    torch.testing.assert_close(theirs, rounded, atol=2e-2, rtol=2e-2)
    full = sum(weights.numel() * 4 for weights in wide.parameters())
    assert (tmp_path / FILE).stat().st_size < 0.35 * full


def test_rounding_is_for_the_while_alone(wide: LlavaForConditionalGeneration) -> None:
    layer = wide.model.language_model.layers[0].mlp.up_proj.weight
    before = layer.detach().clone()
    with rounded_weights(wide, LANGUAGE):
        assert not torch.equal(layer, before)
        layer.square().sum().backward()
        gradient = 2 * layer.detach()
    assert torch.equal(layer, before)
    assert layer.grad is not None
    torch.testing.assert_close(layer.grad, gradient)


def test_weights_of_another_model_are_refused(
    wide: LlavaForConditionalGeneration, processor: LlavaProcessor, tmp_path: Path
) -> None:
    save_small(wide, tmp_path, re.compile("no such name"))
    stored = load_file(tmp_path / FILE)
    name = next(key for key in stored if "up_proj" in key and not key.endswith("scale"))
    del stored[name]
    save_file(stored, tmp_path / FILE)
    with pytest.raises(BadConfiguration, match=re.escape(name)):
        load_small(build_model(processor.tokenizer, WIDE), tmp_path)
    narrow = build_model(processor.tokenizer, ARCHITECTURE)
    with pytest.raises(BadConfiguration, match="fits another model"):
        load_small(narrow, tmp_path)
