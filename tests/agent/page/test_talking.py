"""Talking on the page: asking, asking again, and what is left of it afterwards."""

from __future__ import annotations

import base64
import os
import zipfile
from pathlib import Path

import httpx
import pytest
from llava_plus.agent.store.values import TurnState, Vote
from llava_plus.model.conversation import UserMessage
from PIL import Image
from playwright.sync_api import expect

from ...serving import png
from .served_page import HOSTILE, Server, Tab, needs_browser, served


@needs_browser
def test_a_picture_is_changed_and_all_of_it_is_there_after_reloading(
    tab: Tab, server: Server, picture: Path
) -> None:
    tab.ask("Grey it, please.", picture)
    tab.done("So it is: Converted the image to grayscale.")
    fold = tab.unfold()
    expect(fold.locator(".title")).to_contain_text("adjust")
    expect(fold).to_contain_text('"operation": "grayscale"')
    expect(fold).to_contain_text("Converted the image to grayscale.")
    tab.find("#change-box > button").click()
    expect(tab.find("#change img")).to_have_count(2)
    expect(tab.chat.get_by_alt_text("img_1, given with the request")).to_be_visible()
    expect(tab.chat.get_by_alt_text("made by adjust")).to_be_visible()

    tab.chat.get_by_label("Like", exact=True).click()
    expect(tab.chat.get_by_label("Liked")).to_be_visible()
    tab.page.reload()
    tab.done("So it is: Converted the image to grayscale.")
    expect(tab.chat.locator("img")).to_have_count(2)
    expect(tab.chat.get_by_label("Liked")).to_be_visible()
    [turn] = server.turns()
    assert turn.vote is Vote.UP
    assert turn.conversation in tab.page.url


@needs_browser
def test_the_same_picture_can_be_attached_again(tab: Tab, server: Server, picture: Path) -> None:
    for number in (1, 2):
        tab.ask("Grey it, please.", picture)
        tab.done("So it is: Converted the image to grayscale.")
        assert len(server.turns(number)) == number


@needs_browser
def test_a_conversation_is_renamed_flagged_and_deleted_with_its_pictures(
    tab: Tab, server: Server, picture: Path
) -> None:
    # Early, since what a fold-out holds is filled in once more a moment after it is first opened.
    tab.find("#manage > button").click()
    own = greyed(tab, picture, "teal")
    assert shown(own), "gradio keeps the upload"
    tab.chat.get_by_label("Feedback").focus()
    tab.chat.get_by_role("button", name="Flag").click()
    comment = tab.find("#comment textarea, #comment input")
    expect(comment).to_be_visible()
    tab.page.wait_for_timeout(500)  # the field is emptied after it is shown
    comment.fill("not my picture")
    comment.press("Enter")
    expect(tab.find("#comment")).not_to_be_visible()
    [turn] = server.turns()
    assert (turn.vote, turn.comment) == (Vote.FLAG, "not my picture")

    tab.find("#title textarea, #title input").fill("Teal sheet")
    tab.page.get_by_role("button", name="Rename", exact=True).click()
    expect(tab.find("#history")).to_contain_text("Teal sheet")
    urls = [image.get_attribute("src") or "" for image in tab.chat.locator("img").all()]
    assert [tab.page.request.get(url).status for url in urls] == [200, 200]
    tab.page.get_by_role("button", name="Delete", exact=True).click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.find("#history")).not_to_contain_text("Teal sheet")
    expect(tab.chat.get_by_text("What shall we look at?")).to_be_visible()
    assert not shown(own)
    assert not any(tab.page.request.get(url).ok for url in urls)


@needs_browser
def test_a_program_that_deletes_a_conversation_deletes_its_pictures_on_the_page(
    tab: Tab, server: Server, picture: Path
) -> None:
    own = greyed(tab, picture, "plum")
    urls = [image.get_attribute("src") or "" for image in tab.chat.locator("img").all()]
    [turn] = server.turns()
    deleted = tab.page.request.delete(f"{server.url}/v1/conversations/{turn.conversation}")
    assert deleted.ok
    assert not shown(own)
    assert urls
    assert not any(tab.page.request.get(url).ok for url in urls)


def test_a_conversation_whose_picture_is_lost_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Hello"}]
    asked = {"model": "scripted", "messages": [{"role": "user", "content": parts}]}
    with served(tmp_path) as server, httpx.Client(base_url=server.url) as http:
        kept = http.post("/v1/chat/completions", json=asked).json()["conversation"]
        for artifact in [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]:
            artifact.unlink()
        assert http.delete(f"/v1/conversations/{kept}").json()["deleted"]
        assert http.get(f"/v1/conversations/{kept}").status_code == 404
    assert "copies of an image on the page stay" in caplog.text


def greyed(tab: Tab, picture: Path, colour: str) -> Path:
    """A picture that nobody else has, which the page was asked to grey."""
    own = picture.with_name(f"{colour}.png")
    Image.new("RGB", (64, 48), colour).save(own)
    tab.ask("Grey it, please.", own)
    tab.done("So it is: Converted the image to grayscale.")
    return own


def shown(upload: Path) -> list[Path]:
    """The copies of an upload in the folder that gradio serves."""
    return list(Path(os.environ["GRADIO_TEMP_DIR"]).glob(f"*/{upload.name}"))


@needs_browser
@pytest.mark.parametrize("tab", [{"width": 1200, "height": 560}], indirect=True)
def test_the_answer_is_in_sight_below_large_pictures_until_somebody_scrolls(
    tab: Tab, picture: Path
) -> None:
    tab.ask("Grey it, please.", picture, picture)
    tab.done("So it is: Converted the image to grayscale.")
    answer = tab.chat.get_by_text("So it is: Converted").last
    expect(answer).to_be_in_viewport()
    tab.page.wait_for_timeout(1000)  # until the pictures have grown to their size
    tab.chat.hover()
    tab.page.mouse.wheel(0, -2000)
    expect(answer).not_to_be_in_viewport()
    tab.chat.locator(".thought-group .title").click()
    expect(answer).not_to_be_in_viewport()


@needs_browser
def test_text_of_skills_and_models_is_shown_and_never_run(tab: Tab) -> None:
    tab.ask(f"Repeat {HOSTILE}")
    tab.done("So it is:")
    tab.chat.locator(".thought-group .title").click()
    expect(tab.chat.locator(".thought-group pre").last).to_contain_text(HOSTILE)
    expect(tab.chat.locator('[data-testid="user"]')).to_contain_text(HOSTILE)
    tab.page.wait_for_timeout(300)
    assert tab.page.evaluate("window.hurt") is None
    assert tab.chat.locator("img, script").count() == 0
    assert tab.chat.locator('a[href^="javascript"]').count() == 0
    expect(tab.find("#history")).to_contain_text("<img src=x onerror=")


@needs_browser
def test_a_request_is_repeated_reworded_and_branched_off(tab: Tab, server: Server) -> None:
    tab.ask("First")
    tab.done("That is number 1.")
    tab.chat.get_by_label("Retry").click()
    assert len(server.turns(2)) == 2
    tab.done("That is number 1.")
    tab.find("#reword").click()
    expect(tab.find("#entry textarea")).to_have_value("First")
    tab.ask("Second")
    expect(tab.chat).to_contain_text("Second")
    tab.done("That is number 1.")
    tab.find("#branches-box > button").click()
    tab.find("#branches label").first.click()
    expect(tab.chat).not_to_contain_text("Second")
    tab.ask("Third")
    tab.done("That is number 3.")
    turns = server.turns()
    asked = [turn.messages[0] for turn in turns]
    assert [m.text for m in asked if isinstance(m, UserMessage)] == [
        "First", "First", "Second", "Third",
    ]  # fmt: skip
    assert [turn.parent for turn in turns] == [None, None, None, turns[0].id]

    tab.find("#download > button").click()
    with tab.page.expect_download() as packed:
        tab.find("#archive").click()
    with zipfile.ZipFile(packed.value.path()) as archive:
        assert archive.namelist() == ["record.jsonl"]
        assert '"Third"' in archive.read("record.jsonl").decode()


@needs_browser
def test_what_failed_is_told_and_what_runs_is_stopped(tab: Tab, server: Server) -> None:
    tab.ask(" ")
    expect(tab.find("#notice")).to_contain_text("the request is empty")
    tab.ask("Fail please.")
    expect(tab.find("#notice")).to_have_count(0)
    tab.done("no <b>worker</b> answers")
    assert server.turns()[0].state is TurnState.FAILED
    tab.find("#again").click()
    assert len(server.turns(2)) == 2
    tab.done("no <b>worker</b> answers")
    tab.ask("Climb")
    expect(tab.chat.get_by_text("of 600 steps")).to_be_visible()
    tab.page.keyboard.press("Escape")
    tab.done("Stopped before the answer.")
    assert server.turns()[-1].state is TurnState.STOPPED


@needs_browser
@pytest.mark.parametrize("tab", [{"width": 390, "height": 780}], indirect=True)
def test_it_fits_a_phone(tab: Tab) -> None:
    tab.find("#chat button.example").first.click()
    tab.done("So it is: Found 1 barcode.")
    expect(tab.chat.locator("img")).to_have_count(2)
    widths = tab.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] == widths[1]
    expect(tab.find("#entry textarea")).to_be_in_viewport()
    expect(tab.find("#side")).not_to_be_in_viewport()
    tab.find(".sidebar .toggle-button").click()
    tab.find("#new").click()
    expect(tab.chat.get_by_text("What shall we look at?")).to_be_visible()
    expect(tab.find("#side")).not_to_be_in_viewport()
