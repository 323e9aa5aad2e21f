"""What is favoured where a reply goes on a passage of its source."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.advice import Advice
from llava_plus.model.copying import Copying
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.weighing import Weighing

REQUEST = Copying(
    "Draw a friendly dragon baking cookies, then a friendly dwarf.\nRead 1 line:\nx-9"
)


@pytest.mark.parametrize(
    ("begun", "following"),
    [
        (" a friendly dragon", [" baking cookies, then a friendly dwarf."]),
        (" a friendly d", ["ragon baking cookies, then a friendly dwarf.", "warf."]),
        (" the Friendly dragon", [" baking cookies, then a friendly dwarf."]),
        (" a ragon", []),
        (" an", []),
        (" see a", []),
        (" a", [" friendly dragon baking cookies, then a friendly dwarf.", " friendly dwarf."]),
        ("x", ["-9"]),
        ("", []),
    ],
)
def test_the_longest_passage_tells_what_follows(begun: str, following: list[str]) -> None:
    assert REQUEST.following(begun) == following


@pytest.mark.parametrize(
    ("begun", "following"),
    [
        ("It says: GREEN CAFE", [""]),
        ("It says: GREEN CAFE /", [" Apple pie 4.20"]),
        ("It says: GREEN CAFE / ", ["Apple pie 4.20"]),
        ("It says: Green cafe, ", ["Apple pie 4.20"]),
        ("It says: GREEN CAFE / Apple pie 4.20, ", ["Tea 2.10"]),
        ("It says: Tea 2.10 / ", []),
        ("It says: / ", []),
    ],
)
def test_after_a_line_comes_the_next(begun: str, following: list[str]) -> None:
    assert Copying("GREEN CAFE\nApple pie 4.20\nTea 2.10").following(begun) == following


def test_a_line_is_not_the_end_of_a_longer_word() -> None:
    assert Copying("3\nApple pie").following("It says 13 / ") == []
    assert Copying("3\nApple pie").following("It says 3 / ") == ["Apple pie"]


def test_a_clause_goes_on_with_a_word() -> None:
    rests = [
        " on a hill",
        ", purple",
        "-headed",
        "bakers",
        ".",
        ". Then",
        "?",
        ": so",
        " (small)",
        "",
    ]
    assert Copying.clause(rests) == [" on a hill", ", purple", "-headed", "bakers"]


def test_an_argument_begins_with_a_word_of_the_source() -> None:
    source = Copying("a Fiat Panda\nor not")
    words = ["a Fiat Panda", "Fiat Panda", "Panda", "or not", "not"]
    assert source.beginnings(" ") == words
    assert source.beginnings("") == [*words, *(f" {word}" for word in words)]


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=3), min_size=2))
def test_every_passage_of_a_source_can_be_copied_to_its_end(words: list[str]) -> None:
    source = Copying(" ".join(words))
    for number in range(1, len(words)):
        rests = source.following(" ".join(words[:number]))
        assert any(rest.startswith(f" {words[number]}") for rest in rests)


@pytest.mark.parametrize(
    ("begun", "favoured"),
    [
        ('{"name": " generate", "arguments": {"prompt": " a red', " car"),
        ('{"name": " detect", "arguments": {"labels": [" a red', '"'),
    ],
)
def test_a_name_in_a_list_may_end_within_a_clause_that_other_arguments_go_on(
    renderer: ChatRenderer, begun: str, favoured: str
) -> None:
    request = Copying("Paint a red car.", opening=2.0)
    weighing = Weighing(
        renderer, {0}, Advice({}), replace(request, going_on=2.0), request, Copying("")
    )
    written = renderer.tokenizer.encode(renderer.format.begin + begun, add_special_tokens=False)
    [end] = renderer.tokenizer.encode('"', add_special_tokens=False)
    logits = torch.zeros(len(renderer.tokenizer))
    logits[end] = 1.0
    best = int(weighing(logits, written).argmax())
    assert favoured.startswith(renderer.tokenizer.decode([best]))


@pytest.mark.parametrize(
    "text", ["fêtes in Łódź", "日本 signs", "a 😀 mug", "£20 and €5", "naïve 🇬🇧"]
)
def test_letters_of_several_tokens_are_copied_whole(renderer: ChatRenderer, text: str) -> None:
    request = Copying(f"Paint {text}.", opening=2.0, going_on=2.0)
    weighing = Weighing(renderer, set(), Advice({}), request, request, Copying(""))
    begun = renderer.format.begin + '{"name": " generate", "arguments": {"prompt": " Paint'
    written = renderer.tokenizer.encode(begun, add_special_tokens=False)
    for token in renderer.tokenizer.encode(f" {text}", add_special_tokens=False):
        weighed = weighing(torch.zeros(len(renderer.tokenizer)), written)
        if renderer.tokenizer.decode([token]).strip():
            assert weighed[token] == weighed.max() > 0
        written.append(token)


def test_the_tokens_with_which_a_text_begins_are_found(renderer: ChatRenderer) -> None:
    vocabulary = renderer.tokenizer.get_vocab().values()
    pieces = {n: renderer.tokenizer.decode([n]) for n in sorted(vocabulary)}
    control = renderer.tokenizer.added_tokens_decoder
    whole = [n for n, piece in pieces.items() if piece.strip() and "\ufffd" not in piece]
    told = [n for n in whole if n not in control]
    for text in (pieces[token] + "ish" for token in told[::7]):
        found = renderer.vocabulary.beginning([text.encode(), b"  "])
        assert found == [token for token in told if text.startswith(pieces[token])]


def test_a_text_begins_with_no_control_token(renderer: ChatRenderer) -> None:
    for token in renderer.tokenizer.added_tokens_decoder.values():
        if token.special:
            [spelled] = renderer.tokenizer.encode(token.content, add_special_tokens=False)
            assert spelled not in renderer.vocabulary.beginning([token.content.encode()])


@pytest.mark.parametrize(
    ("reply", "begun"),
    [
        ('<|call|>{"name": " generate", "arguments": {"prompt": " a cat', (" a cat", False)),
        ('<|call|>{"name": " generate", "arguments": {"prompt": " a \\"cat', (' a \\"cat', False)),
        ('<|call|>{"name": " detect", "arguments": {"labels": [" cat", " d', (" d", True)),
        ('<|call|>{"name": " detect", "arguments": {"labels": [" cat"', None),
        ('<|call|>{"name": " rotate", "arguments": {"amount": 9', None),
        ('<|call|>{"name": " detect", "arguments": {"lab', None),
        ('<|call|>{"name": " detect", "arguments": {"labels": [" cat"], "ima', None),
        ('<|call|>{"name": " detect", "arguments": {"labels": [" cat", "', ("", True)),
        ("It says: a", None),
    ],
)
def test_a_string_of_a_call_is_found_where_it_breaks_off(
    renderer: ChatRenderer, reply: str, begun: tuple[str, bool] | None
) -> None:
    assert renderer.format.begun_value(reply) == begun
