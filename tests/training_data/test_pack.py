"""Packing a model: small, loaded like the one that it was made from, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from llava_plus.model.loading import load_model
from llava_plus.model.scratch import Architecture, build_model, build_processor, train_tokenizer
from llava_plus.model.small_weights import FILE
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.commands.pack import command

SIZES = Architecture(
    vocabulary=300, hidden=128, layers=2, heads=2, feed_forward=192, image_size=32, patch=16,
    vision_hidden=16, vision_layers=1, vision_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["find the dog"] * 3, SIZES)
    build_model(tokenizer, SIZES).save_pretrained(folder)
    build_processor(tokenizer, SIZES).save_pretrained(folder)
    return folder


def test_a_packed_model_loads(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(model), str(tmp_path / "small")])
    assert "MB" in result.output
    loaded, processor = load_model(str(tmp_path / "small"), device="cpu", dtype=None)
    assert not loaded.training
    assert processor.chat_template
    whole = (model / "model.safetensors").stat().st_size
    assert (tmp_path / "small" / FILE).stat().st_size < 0.4 * whole


def test_a_model_is_not_packed_over_itself(model: Path) -> None:
    result = CliRunner().invoke(command, [str(model), str(model / ".." / model.name)])
    assert "another one than MODEL" in result.output
    assert not (model / FILE).exists()


def test_a_packed_file_that_breaks_off_is_named(model: Path, tmp_path: Path) -> None:
    CliRunner().invoke(command, [str(model), str(tmp_path)])
    packed = tmp_path / FILE
    packed.write_bytes(packed.read_bytes()[:1000])
    with pytest.raises(BadConfiguration, match="cannot be read"):
        load_model(str(tmp_path), device="cpu", dtype=None)
