"""The evaluation: what counts as right, and what the report says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import SkillUse
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.commands.evaluate import command
from llava_plus.training_data.evaluate import Case, Report, describe, evaluate, read_cases


def case(request: str, *expect: dict[str, Any]) -> Case:
    return Case.model_validate({"id": request, "request": request, "expect": list(expect)})


def use(name: str, **arguments: Any) -> SkillUse:
    return SkillUse(id="c", name=name, arguments=arguments)


def judged(reply: Any, one: Case) -> Report:
    return asyncio.run(evaluate(ScriptedLMM([reply]), [one]))


DETECT = {"name": "detect", "arguments": {"labels": ["red cars", "dog"]}}


@pytest.mark.parametrize(
    ("reply", "right", "exact", "valid"),
    [
        (use("detect", labels=["the dog", "Red car"], image="img_1"), True, True, True),
        (use("detect", labels=["dog"], image="img_1"), True, False, True),
        (
            use("detect", labels=["dog", "red cars"], image="img_1", threshold=0.5),
            True,
            False,
            True,
        ),
        (use("detect", labels="dog", image="img_1"), True, False, False),
        (use("ocr", image="img_1"), False, False, True),
        (use("nowhere"), False, False, False),
        ("I see a dog.", False, False, True),
    ],
)
def test_what_counts(reply: Any, right: bool, exact: bool, valid: bool) -> None:
    (verdict,) = judged(reply, case("find the dog and red cars", DETECT)).verdicts
    assert (verdict.right_skill, verdict.exact, verdict.valid) == (right, exact, valid)


def test_figures_and_text() -> None:
    cases = [case("hello"), case("read it", {"name": "ocr"}), case("hm")]
    lmm = ScriptedLMM(["hi", use("ocr", image="img_1"), use("ocr", image="img_1")])
    report = asyncio.run(evaluate(lmm, cases))
    figures = report.figures()
    assert figures["right_skill"] == figures["calls_valid"] == 1
    assert figures["no_skill_left_alone"] == 0.5
    assert report.by_skill() == {"none": (2, 1, 1), "ocr": (1, 1, 1)}
    assert report.confusions() == [("none", "ocr", 1)]
    text = "\n".join(describe(report))
    assert "no_skill_left_alone: 0.500" in text
    assert "'hm'" in text


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "a", "request": "x", "expect": []}\n{"id": "b"}\n')
    with pytest.raises(BadInput, match=r"cases.jsonl:2: request: Field required"):
        read_cases(path)


def test_the_command_prints_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "a", "request": "hello", "expect": []}\n')
    lmm = ScriptedLMM(["hi"])
    monkeypatch.setattr("llava_plus.agent.session.open_lmm", lambda name, device: lmm)
    result = CliRunner().invoke(command, [str(path), "--json"])
    assert json.loads(result.output)["no_skill_left_alone"] == 1
