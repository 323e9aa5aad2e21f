"""The lesson from a sentence encoder: what is asked for where, and that it is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from llava_plus.model.conversation import Conversation
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.training.recipe import Recipe
from llava_plus.model.training.sentences import SentenceEncoder, sentence_ends
from llava_plus.model.training.trainer import Progress, train
from llava_plus.skills.errors import BadConfiguration
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from .conftest import ARCHITECTURE
from .conversations import SPEC, conversations
from .test_training import RECIPE


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real BERT with random weights, saved in the library's own format."""
    folder = tmp_path_factory.mktemp("encoder")
    letters = [chr(code) for code in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(folder)
    return str(folder)


def test_a_sentence_has_one_vector_in_any_company(encoder_folder: str) -> None:
    encoder = SentenceEncoder(encoder_folder)
    alone = SentenceEncoder(encoder_folder).encode(["find the dog"])[0]
    _, again, _ = encoder.encode(["a much longer sentence than that", "find the dog", "x"])
    torch.testing.assert_close(again, alone, atol=0.03, rtol=0.03)
    assert alone.shape == (encoder.width,)


def test_an_encoder_that_is_not_there_is_named() -> None:
    with pytest.raises(BadConfiguration, match="no_such/encoder"):
        SentenceEncoder("no_such/encoder")


@settings(deadline=None, max_examples=50)
@given(conversation=conversations())
def test_meaning_is_asked_for_where_the_text_is_known(
    renderer: ChatRenderer, conversation: Conversation
) -> None:
    """After each description, and where the reply to each request begins."""
    conversation = conversation.model_copy(update={"skills": (SPEC,)})
    rendered = renderer.training(conversation, lambda handle: [0] * 4)
    described, *asked = sentence_ends(renderer, conversation, rendered)
    before = renderer.tokenizer.decode(rendered.ids[: described[0]])
    assert described[1] == SPEC.description
    assert before.endswith(renderer.control.neutralise(SPEC.description))
    for place, _ in asked:
        assert not rendered.learned[place]
        assert rendered.learned[place + 1]
    pairs = zip(conversation.messages, conversation.messages[1:], strict=False)
    wanted = [m.text for m, n in pairs if m.role == "user" and n.role == "assistant"]
    assert [text for _, text in asked] == wanted


def test_the_lesson_is_learned_and_kept(encoder_folder: str, tmp_path: Path) -> None:
    log: list[Progress] = []
    recipe = Recipe.model_validate({**RECIPE, "steps": 12, "sentence_encoder": encoder_folder})
    while not train(recipe, tmp_path, report=log.append, stop_after=1):
        pass
    losses = [progress.lesson_loss for progress in log]
    assert all(loss is not None for loss in losses)
    first, last = losses[0], losses[-1]
    assert first and last is not None and last < 0.8 * first


def test_a_run_can_start_from_a_model(tmp_path: Path) -> None:
    first: dict[str, Any] = {**RECIPE, "steps": 2, "precision": "float32"}
    train(Recipe.model_validate(first), tmp_path / "first")
    start = str(tmp_path / "first" / "model")
    still: dict[str, Any] = {**first, "steps": 1, "start_from": start, "learning_rate": 1e-12}
    train(Recipe.model_validate(still), tmp_path / "second")
    ours = load_file(tmp_path / "second" / "model" / "model.safetensors")
    for name, weights in load_file(tmp_path / "first" / "model" / "model.safetensors").items():
        torch.testing.assert_close(ours[name], weights, atol=1e-9, rtol=0)
