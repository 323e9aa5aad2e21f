"""What a person sees of a turn while it happens."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from llava_plus.agent.commands.narrator import Narrator
from llava_plus.agent.loop import CallProgressed, CallsDecided, ResultArrived, TurnEvent
from llava_plus.model.conversation import Conversation
from llava_plus.skills import SkillResult, SkillUse
from llava_plus.skills.progress import Progress

ERASE = "\r\x1b[K"
PAINT = SkillUse(id="a", name="generate", arguments={"prompt": "a cat"})
READ = SkillUse(id="b", name="ocr", arguments={})


def progressed(use: SkillUse, done: int, what: str = "steps") -> CallProgressed:
    return CallProgressed(use, Progress(done=done, total=30, what=what))


@pytest.fixture
def shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """What each event of a turn adds to the output, without its colours."""

    def show(*events: TurnEvent, terminal: bool = True) -> list[str]:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        monkeypatch.setenv("COLUMNS", "60")
        narrator, parts = Narrator(), []
        for event in events:
            narrator(event, [])
            parts.append(re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out))
        return parts

    return show


def test_progress_is_one_line_that_makes_room_for_the_result(
    shown: Callable[..., list[str]],
) -> None:
    result = SkillResult(id="a", name="generate", text="Made the picture.")
    _, first, second, third, arrived = shown(
        CallsDecided((PAINT, READ), Conversation()),
        progressed(PAINT, 1),
        progressed(PAINT, 2),
        progressed(READ, 7, "lines"),
        ResultArrived(result, 1.0),
    )
    assert first == f"{ERASE}generate: 1 of 30 steps"
    assert second == f"{ERASE}{ERASE}generate: 2 of 30 steps"
    assert third.endswith(f"{ERASE}generate: 2 of 30 steps, ocr: 7 of 30 lines")
    assert arrived.startswith(ERASE)
    assert "Made the picture. 1.00 s\n" in arrived
    assert arrived.endswith(f"\n{ERASE}ocr: 7 of 30 lines")


def test_what_is_shown_fits_and_moves_no_cursor(shown: Callable[..., list[str]]) -> None:
    (text,) = shown(progressed(PAINT, 1, "\x1b[2Jsteps\n" * 20))
    line = text.removeprefix(ERASE)
    assert len(line) == 59
    assert line.isprintable()


def test_where_there_is_no_terminal_nothing_is_shown(shown: Callable[..., list[str]]) -> None:
    assert shown(progressed(PAINT, 1), progressed(PAINT, 2), terminal=False) == ["", ""]
