"""Starting from a language model: its words and layers arrive, and nothing that is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.scratch import Architecture, build_model, special_tokens
from llava_plus.model.training.language_start import LanguageStart, load_language_start
from llava_plus.skills.errors import BadConfiguration
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXTS = ["Find the dog in the garden", "the red car and the green door", "12 dogs, 0.25 cars"] * 4
SIZES = Architecture(
    vocabulary=300, hidden=32, layers=2, heads=4, key_value_heads=2, feed_forward=64,
    image_size=32, patch=16, vision_hidden=16, vision_layers=1, vision_heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with random weights and a byte-level BPE, in the library's own format."""
    path = tmp_path_factory.mktemp("language")
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(TEXTS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words.get_vocab_size(), hidden_size=32, intermediate_size=64,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def start(folder: Path) -> LanguageStart:
    return load_language_start(str(folder))


@pytest.fixture(scope="module")
def tokenizer(start: LanguageStart) -> PreTrainedTokenizerFast:
    few = dataclasses.replace(start, common=5)
    return few.shortened_tokenizer(["Find the dog"] * 9, SIZES)


@given(st.text(max_size=40))
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_the_words_of_the_texts_are_kept_and_digits_stand_alone(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert len(tokenizer) <= SIZES.vocabulary
    assert tokenizer.tokenize("Find the dog") == ["Find", "Ġthe", "Ġdog"]
    assert tokenizer.tokenize("125") == ["1", "2", "5"]
    assert len(tokenizer.tokenize("green")) > 1
    assert tokenizer.convert_tokens_to_ids(special_tokens()) == list(range(len(special_tokens())))


def test_a_vocabulary_that_is_too_small_is_refused(start: LanguageStart) -> None:
    with pytest.raises(BadConfiguration, match="a vocabulary of 92 words is too small"):
        start.shortened_tokenizer([], SIZES.model_copy(update={"vocabulary": 100}))


def test_words_and_chosen_layers_are_copied(
    start: LanguageStart, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = build_model(tokenizer, SIZES)
    start.place_in(model, tokenizer, (0, 3))
    ours, base = model.model.language_model, start.model.model
    index = tokenizer.get_vocab()["Ġdog"]
    before = start.tokenizer.get_vocab()["Ġdog"]
    assert torch.equal(ours.embed_tokens.weight[index], base.embed_tokens.weight[before])
    for layer, number in zip(ours.layers, (0, 3), strict=True):
        expected = base.layers[number].self_attn.q_proj.weight
        assert torch.equal(layer.self_attn.q_proj.weight, expected)
    assert torch.equal(model.lm_head.weight, ours.embed_tokens.weight)


@pytest.mark.parametrize(
    ("sizes", "layers", "told"),
    [
        ({"hidden": 64}, None, "the architecture has"),
        ({}, (0, 1, 2), r"layers \[0, 1, 2\]"),
        ({}, (0, 9), r"layers \[0, 9\] of a language model of 4"),
    ],
)
def test_what_does_not_fit_is_refused(
    start: LanguageStart,
    tokenizer: PreTrainedTokenizerFast,
    sizes: dict[str, int],
    layers: tuple[int, ...] | None,
    told: str,
) -> None:
    model = build_model(tokenizer, SIZES.model_copy(update=sizes))
    with pytest.raises(BadConfiguration, match=told):
        start.place_in(model, tokenizer, layers)


def test_a_language_model_that_is_not_there_is_named() -> None:
    for name in ("no_such/model", "SmolLM2_1.7B"):
        with pytest.raises(BadConfiguration, match=name):
            load_language_start(name)
