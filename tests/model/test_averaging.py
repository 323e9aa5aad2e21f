"""The mean of several models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from llava_plus.model.averaging import average_into
from llava_plus.model.loading import load_model
from llava_plus.model.scratch import build_model
from llava_plus.model.small_weights import FILE
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.commands.pack import command
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from .conftest import ARCHITECTURE


def made(
    processor: LlavaProcessor, value: float, hidden: int = ARCHITECTURE.hidden
) -> LlavaForConditionalGeneration:
    """A model all of whose weights are one number."""
    model = build_model(processor.tokenizer, ARCHITECTURE.model_copy(update={"hidden": hidden}))
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(value)
    return model


def test_each_model_counts_the_same(processor: LlavaProcessor) -> None:
    model = made(processor, 1)
    average_into(model, [made(processor, 2), made(processor, 6)])
    assert all((weights == 3).all() for weights in model.parameters())


def test_models_of_two_kinds_are_refused_and_left_as_they_are(processor: LlavaProcessor) -> None:
    model = made(processor, 1)
    with pytest.raises(BadConfiguration, match="one kind can be averaged"):
        average_into(model, [made(processor, 2), made(processor, 3, ARCHITECTURE.hidden * 2)])
    assert all((weights == 1).all() for weights in model.parameters())


def test_several_are_packed_as_their_mean(processor: LlavaProcessor, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("one", "three")]
    for folder, value in zip(folders, (1, 3), strict=True):
        made(processor, value).save_pretrained(folder)
        processor.save_pretrained(folder)
    done = CliRunner().invoke(command, [*folders, str(tmp_path / "mean")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mean" / FILE).exists()
    loaded, _ = load_model(str(tmp_path / "mean"), device="cpu", dtype="float32")
    assert all(
        torch.allclose(weights, torch.tensor(2.0), rtol=0.01) for weights in loaded.parameters()
    )
    again = CliRunner().invoke(command, [*folders, folders[1]])
    assert again.exit_code == 2
    assert "FOLDER must be another one" in again.output
