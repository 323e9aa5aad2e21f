"""Held-out skills: what is on offer beside them, and that training never meets them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llava_plus.skills.calls import SkillSpec
from llava_plus.training_data.bank import Bank, read_invented
from llava_plus.training_data.unseen import UNSEEN, unseen_cases


@pytest.mark.parametrize("offered", [2, 6, 30])
def test_the_wanted_skill_is_among_those_on_offer(offered: int) -> None:
    cases = unseen_cases(offered)
    assert len(cases) >= 200
    for case in cases:
        assert case.tools is not None
        names = [SkillSpec.from_tool(tool).name for tool in case.tools]
        assert len(set(names)) == len(names) == offered
        assert case.wanted in names
        assert "{" not in case.request
        spec = SkillSpec.from_tool(case.tools[names.index(case.wanted)])
        assert set(case.expect[0].arguments) <= set(spec.parameters["properties"])


def test_cases_depend_on_the_seed_alone() -> None:
    assert unseen_cases(6, seed=3) == unseen_cases(6, seed=3)
    assert unseen_cases(6, seed=3) != unseen_cases(6, seed=4)


@pytest.mark.parametrize("path", sorted(UNSEEN.parent.glob("*.txt")), ids=lambda path: path.stem)
def test_held_out_skills_are_not_in_the_bank(path: Path) -> None:
    """Neither a name, nor a request of five words that shares nine tenths of them."""

    def words(text: str) -> frozenset[str]:
        return frozenset(re.findall(r"\w+", text.lower()))

    trained, held_out = Bank().invented, read_invented(path)
    assert not {skill.spec.name for skill in held_out} & {skill.spec.name for skill in trained}
    known = [words(request.text) for skill in trained for request in skill.requests]
    for skill in held_out:
        for request in skill.requests:
            own = words(request.text)
            near = (own & other for other in known if len(own & other) > 0.9 * len(own | other))
            assert len(own) < 5 or not any(near), request.text
