"""TrOCR on a tiny model: lines are those that RapidOCR finds, texts and scores the library's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llava_plus.skills.backends.rapidocr import LineFinder
from llava_plus.skills.backends.trocr import TrOCRReader
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from llava_plus.skills.ocr import Ocr
from PIL import Image, ImageOps
from transformers import (
    RobertaTokenizer,
    TrOCRConfig,
    TrOCRForCausalLM,
    TrOCRProcessor,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from .tiny_models import save_sam
from .tiny_tokenizers import LETTERS

WORDS = {(40, 40): "Dear Anna", (40, 160): "see you on Friday"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader with one block in each half, which knows letters."""
    folder = tmp_path_factory.mktemp("trocr")
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *LETTERS]
    tokenizer = RobertaTokenizer(vocab={word: at for at, word in enumerate(words)}, merges=[])
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(5)  # of two lines, one ends before the other
    encoder = ViTModel(
        ViTConfig(**sizes, intermediate_size=32, image_size=32, patch_size=8, initializer_range=1.0)
    )
    decoder = TrOCRForCausalLM(
        TrOCRConfig(
            vocab_size=len(words), d_model=16, decoder_layers=1, decoder_attention_heads=2,
            decoder_ffn_dim=32, max_position_embeddings=64, cross_attention_hidden_size=16,
            init_std=1.0,
        )
    )  # fmt: skip
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 1, 2
    model.save_pretrained(folder)
    images = ViTImageProcessorPil(size={"height": 32, "width": 32})
    TrOCRProcessor(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reader(folder: Path) -> TrOCRReader:
    reader = TrOCRReader(model=str(folder), longest=8, min_score=0)
    reader.load("cpu")
    return reader


def test_lines_are_found_without_being_read(write: Callable[..., Image.Image]) -> None:
    finder = LineFinder()
    finder.load()
    (upper, first), (lower, second) = finder.find(write((700, 300), WORDS))
    assert upper.x0 == pytest.approx(40 / 700, abs=0.02)
    assert upper.y0 == pytest.approx(45 / 300, abs=0.04)
    assert lower.y0 == pytest.approx(165 / 300, abs=0.04)
    assert lower.x1 == pytest.approx(310 / 700, abs=0.03)
    assert first.width < second.width
    for box, line in ((upper, first), (lower, second)):
        assert line.width == pytest.approx((box.x1 - box.x0) * 700, abs=3)
        assert ImageOps.grayscale(line).getextrema()[0] < 50


@torch.inference_mode()
def test_texts_and_scores_are_the_librarys(
    reader: TrOCRReader, write: Callable[..., Image.Image]
) -> None:
    page = write((700, 300), WORDS)
    finder = LineFinder()
    finder.load()
    expected = []
    for box, line in finder.find(page):
        pixels = reader._processor(images=line, return_tensors="pt").pixel_values
        made = reader._model.generate(
            pixels, max_new_tokens=8, output_logits=True, return_dict_in_generate=True
        )
        odds = torch.cat(made.logits).log_softmax(dim=-1)
        chances = odds.gather(-1, made.sequences[0, 1:, None]).mean().exp()
        (text,) = reader._processor.batch_decode(made.sequences, skip_special_tokens=True)
        expected.append((text.strip(), box, pytest.approx(float(chances), abs=1e-3)))
    assert [(line.text, line.box, line.score) for line in reader.read(page)] == expected
    first, second = (text for text, *_ in expected)
    assert 0 < len(first) != len(second) > 0  # so the shorter one is filled up


def test_the_skill_leaves_out_what_is_misread(
    folder: Path, write: Callable[..., Image.Image], settings: Callable[..., None]
) -> None:
    page = write((700, 300), WORDS)
    for least, told in ((0, "Read 2 lines:"), (1, "Found no text.")):
        settings("ocr", backend="trocr", model=folder, min_score=least, longest=8)
        skill = Ocr()
        skill.setup("cpu")
        text = skill.call({"image": "img_1"}, images={"img_1": page}).text()
        assert text.startswith(told)


def test_pages_without_text_and_strips(reader: TrOCRReader) -> None:
    assert reader.read(Image.new("RGB", (300, 200), "white")) == []
    assert reader.read(Image.new("RGB", (3, 5000), "white")) == []
    with pytest.raises(BadSkillUse, match="region"):
        reader.read(Image.new("RGB", (20_000, 30), "white"))


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_sam(tmp_path)
    with pytest.raises(BadConfiguration, match="is a sam, not a vision-encoder-decoder"):
        TrOCRReader(model=str(tmp_path)).load("cpu")
