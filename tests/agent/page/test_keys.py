"""The page without a mouse: every control by keys, and always to be seen which one is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from llava_plus.agent.store.values import Vote
from llava_plus.model.conversation import UserMessage
from playwright.sync_api import Locator, expect

from .served_page import Server, Tab, needs_browser

MOST_STOPS = 60

_OUTLINED = """() => {
  for (let e = document.activeElement; e !== document.body; e = e.parentElement) {
    const {outlineStyle, outlineWidth} = getComputedStyle(e);
    if (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2) return true;
  }
  return false;
}"""
_WHERE = """() => {
  const e = document.activeElement;
  return e === document.body ? "" : `${e.closest("[id]").id} ${e.tagName} ${e.className}`;
}"""


def stops(tab: Tab) -> list[str]:
    """Every place at which Tab stops, from the first on; each is outlined."""
    tab.find("#entry button").last.focus()
    tab.page.keyboard.press("Tab")
    assert not tab.page.evaluate(_WHERE), "the last place on the page"
    found: list[str] = []
    while len(found) < MOST_STOPS:
        tab.page.keyboard.press("Tab")
        where = tab.page.evaluate(_WHERE)
        if not where:
            return found
        found.append(where)
        assert tab.page.evaluate(_OUTLINED), f"nothing shows that the focus is on {where}"
    raise AssertionError(f"Tab goes round and round: {found}")


def go(tab: Tab, there: Locator, key: str) -> None:
    """Press Tab until the focus is there, and then a key."""
    for _ in range(MOST_STOPS):
        if there.evaluate("(there) => there === document.activeElement"):
            tab.page.keyboard.press(key)
            return
        tab.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {there}")


@needs_browser
def test_a_turn_is_asked_for_read_and_voted_on_by_keys_alone(
    tab: Tab, server: Server, picture: Path
) -> None:
    tab.find("#entry input[type=file]").set_input_files(picture)
    expect(tab.find("#entry .thumbnail-item")).to_be_visible()
    go(tab, tab.find("#entry textarea"), "G")
    tab.page.keyboard.type("rey it, please.")
    tab.page.keyboard.press("Enter")
    tab.done("So it is: Converted the image to grayscale.")

    fold = tab.chat.locator(".thought-group")
    for opens, closes in (("Enter", "Space"), ("Space", "Escape")):
        go(tab, fold.locator(".title"), opens)
        expect(fold).to_contain_text('"operation": "grayscale"')
        expect(fold.locator(".title")).to_have_attribute("aria-expanded", "true")
        tab.page.keyboard.press(closes)
        expect(fold).not_to_contain_text('"operation": "grayscale"')
    go(tab, tab.chat.get_by_label("Like", exact=True), "Enter")
    expect(tab.chat.get_by_label("Liked")).to_be_visible()
    go(tab, tab.find("#change-box > button"), "Space")
    expect(tab.find("#change")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.find("#change")).not_to_be_visible()

    tab.page.reload()
    tab.done("So it is: Converted the image to grayscale.")
    expect(tab.chat.get_by_label("Liked")).to_be_visible()
    go(tab, tab.chat.get_by_label("Retry"), "Enter")
    first, second = server.turns(2)
    assert (first.vote, second.vote) == (Vote.UP, None)


@needs_browser
def test_places_are_marked_by_keys_alone(tab: Tab, server: Server, picture: Path) -> None:
    tab.find("#entry input[type=file]").set_input_files(picture)
    go(tab, tab.find("#mark-box > button"), "Enter")
    places = tab.find("#places textarea, #places input")
    expect(places).to_be_visible()
    go(tab, places, "1")
    tab.page.keyboard.type("0,20,50,60")
    go(tab, tab.find("#entry textarea"), "C")
    tab.page.keyboard.type("ut it out.")
    tab.page.keyboard.press("Enter")
    expect(tab.find("#notice")).to_contain_text("'10,20,50,60' is no box")
    assert places.input_value() == "10,20,50,60"
    places.fill("0.1,0.2,0.5,0.6 0.3, 0.25")
    tab.find("#entry textarea").press("Enter")
    tab.done("So it is: Cut out")
    assert places.input_value() == ""
    [turn] = server.turns()
    asked = turn.messages[0]
    assert isinstance(asked, UserMessage)
    assert asked.marks
    assert (asked.marks.boxes, asked.marks.points) == (((0.1, 0.2, 0.5, 0.6),), ((0.3, 0.25),))


@needs_browser
def test_arrows_move_the_line_between_before_and_after(tab: Tab, picture: Path) -> None:
    tab.ask("Grey it, please.", picture)
    tab.done("So it is: Converted the image to grayscale.")
    go(tab, tab.find("#change-box > button"), "Enter")
    line = tab.find("#change").get_by_role("slider")
    expect(line).to_be_visible()

    def middle() -> float:
        box = line.bounding_box()
        assert box
        return box["x"] + box["width"] / 2

    between = middle()
    go(tab, line, "Home")
    left = middle()
    go(tab, line, "End")
    right = middle()
    assert between == pytest.approx((left + right) / 2, abs=2)
    assert right - left > 100
    for key, share in (("ArrowLeft", 0.95), ("ArrowRight", 1), ("ArrowRight", 1), ("Home", 0)):
        go(tab, line, key)
        assert middle() == pytest.approx(left + share * (right - left), abs=2)
        assert line.get_attribute("aria-valuenow") == str(round(100 * share))


@needs_browser
def test_tab_stops_at_every_control_and_shows_where_it_is(tab: Tab, picture: Path) -> None:
    tab.ask("Grey it, please.", picture)
    tab.done("So it is: Converted the image to grayscale.")
    tab.page.wait_for_timeout(500)
    places = {stop.split()[0] for stop in stops(tab)}
    boxes = {"branches-box", "download", "manage", "settings", "mark-box", "camera-box"}
    assert places >= boxes | {"new", "search", "history", "chat", "reword", "change-box", "entry"}
    tab.find("#manage > button").press("Enter")
    tab.find("#mark-box > button").press("Enter")
    expect(tab.find("#canvas")).to_be_visible()
    tab.page.wait_for_timeout(500)
    assert {stop.split()[0] for stop in stops(tab)} >= {"title", "kind", "canvas", "places"}


@needs_browser
def test_escape_closes_what_was_opened_last(tab: Tab) -> None:
    tab.ask("First")
    tab.done("That is number 1.")
    go(tab, tab.find("#mark-box > button"), "Enter")
    expect(tab.find("#kind")).to_be_visible()
    tab.page.wait_for_timeout(500)  # the page still tells its server of that
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Escape")
    expect(tab.find("#kind")).not_to_be_visible()
    expect(tab.find("#mark-box > button")).to_be_focused()
    go(tab, tab.find("#reword"), "Enter")
    expect(tab.find("#reword-not")).to_be_visible()
    expect(tab.find("#entry textarea")).to_have_value("First")
    tab.page.wait_for_timeout(500)
    tab.page.keyboard.press("Escape")
    expect(tab.find("#entry textarea")).to_have_value("")
    expect(tab.find("#reword")).to_be_visible()
    go(tab, tab.chat.get_by_label("Dislike"), "Enter")
    expect(tab.find("#comment")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.find("#comment")).not_to_be_visible()
    expect(tab.find("#entry textarea")).to_be_focused()
