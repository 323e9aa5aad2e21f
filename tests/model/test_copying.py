"""What is favoured where a reply goes on a passage of its source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.copying import Copying
from llava_plus.model.rendering import ChatRenderer

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


def test_only_pieces_that_go_on_the_passage_are_favoured() -> None:
    pieces = [" baking", " b", " fishing", " baking soda", " ", ""]
    assert REQUEST.favoured(" friendly dragon", pieces) == [True, True, False, False, False, False]


def test_at_the_end_of_a_line_nothing_is_favoured() -> None:
    assert REQUEST.favoured("dwarf.", ["\n", " Read", "Read"]) == [False] * 3


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=3), min_size=2))
def test_every_passage_of_a_source_can_be_copied_to_its_end(words: list[str]) -> None:
    source = Copying(" ".join(words))
    for number in range(1, len(words)):
        begun = " ".join(words[:number])
        assert source.favoured(begun, [f" {words[number]}"]) == [True]


@pytest.mark.parametrize(
    ("reply", "begun"),
    [
        ('<|call|>{"name": " generate", "arguments": {"prompt": " a cat', " a cat"),
        ('<|call|>{"name": " generate", "arguments": {"prompt": " a \\"cat', ' a \\"cat'),
        ('<|call|>{"name": " detect", "arguments": {"labels": [" cat", " d', " d"),
        ('<|call|>{"name": " detect", "arguments": {"labels": [" cat"', None),
        ('<|call|>{"name": " rotate", "arguments": {"amount": 9', None),
        ("It says: a", None),
    ],
)
def test_a_string_of_a_call_is_found_where_it_breaks_off(
    renderer: ChatRenderer, reply: str, begun: str | None
) -> None:
    assert renderer.format.begun_value(reply) == begun
