"""Light and dark: what is written can be read, and what is drawn can be seen."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from .contrast import contrasts
from .served_page import Server, Tab, needs_browser, opened

ENOUGH = 4.5
"""What WCAG's level AA asks of text of any size."""


def check_contrast(tab: Tab, where: str) -> None:
    tab.page.wait_for_timeout(500)  # colours change softly
    texts = contrasts(tab.page)
    letters = [found for found in texts if any(map(str.isalnum, found.text))]
    assert len(letters) > 5
    faint = [found for found in letters if found.contrast < ENOUGH]
    assert not faint, f"too faint, {where}"


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_that_is_written_can_be_read(
    scheme: str, server: Server, browser: Browser
) -> None:
    size = {"width": 1200, "height": 1100}
    with opened(server, browser, viewport=size, color_scheme=scheme) as tab:
        assert tab.page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
        check_contrast(tab, "at the beginning")
        tab.ask("Fail please.")
        tab.done("no <b>worker</b> answers")
        check_contrast(tab, "when it failed")
        tab.find("#new").click()
        expect(tab.chat.get_by_text("What shall we look at?")).to_be_visible()
        tab.find("#chat button.example").first.click()
        tab.done("So it is: Found 1 barcode.")
        expect(tab.unfold()).to_contain_text('"barcode"')
        tab.chat.get_by_label("Dislike").click()
        expect(tab.find("#comment")).to_be_visible()
        check_contrast(tab, "with a call unfolded")
        for box in ("branches-box", "download", "manage", "settings", "mark-box"):
            tab.find(f"#{box} > button").click()
        tab.find("#entry textarea").fill("x")
        expect(tab.find("#kind")).to_be_visible()
        check_contrast(tab, "with everything open")

        drawn = tab.chat.get_by_alt_text("with what detect found")
        tab.find("#mark-box > button").click()
        expect(tab.find("#kind")).not_to_be_visible()
        drawn.scroll_into_view_if_needed()
        expect(drawn).to_be_in_viewport(ratio=0.5)
        assert drawn.evaluate(
            """(image) => {
              const {x, y, width, height} = image.getBoundingClientRect();
              const bright = getComputedStyle(image);
              return image.naturalWidth > 300 && bright.opacity === "1" && bright.filter === "none"
                && document.elementFromPoint(x + width / 2, y + height / 2).contains(image);
            }"""
        )
