"""Numbers come out as Python would have them; nothing else comes out at all."""

from __future__ import annotations

import contextlib
import operator
import sys
import time
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.skills.calculate import Calculate, Calculated
from llava_plus.skills.discovery import GROUP, InstalledSkill
from llava_plus.skills.errors import BadConfiguration, BadSkillUse, SkillError, SkillFailed
from llava_plus.skills.extras import Packages
from llava_plus.skills.readiness import readiness, usable_skills


def calculate(expression: str) -> Calculated:
    output = Calculate().call({"expression": expression})
    assert isinstance(output, Calculated)
    return output


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("37 * 48", "1776"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3", "0.333333333333"),
        ("(17.5 + 3) * 12", "246"),
        ("7 // 2 + 7 % 4 - -2 ** 2", "10"),
        ("2 ** 0.5", "1.41421356237"),
        ("2^10", "1024"),
        ("3 × 4 ÷ 2 − 1", "5"),  # noqa: RUF001
        ("1234567890123.45 + 0", "1234567890123.45"),
        ("123456789 * 987654321", "121932631112635269"),
        ("0.000012 / 80", "1.5e-07"),
        ("2 ** 200", "1.60693804425899e+60"),
        ("100 / 4", "25"),
        ("-0.0", "0"),
        ("sqrt(16) + floor(2.7) + ceil(2.1) + abs(-3)", "12"),
        ("log(e) + log10(1000) + log(8, 2) + exp(0)", "8"),
        ("sin(pi)", "0"),
        ("cos(radians(60)) + degrees(atan(1))", "45.5"),
        ("round(2 / 3, 2)", "0.67"),
        ("round(1234, -2)", "1200"),
        ("sum(1, 2, 3.5) + sum([1, 2])", "9.5"),
        ("mean([1, 2, 4]) * 3", "7"),
        ("median(5, 1, 3) + min(4, 2) + max([7, 8])", "13"),
        ("2 < 3", "true"),
        ("1 < 3 < 2", "false"),
        ("0.1 + 0.2 == 0.3", "true"),
        ("0.1 + 0.2 > 0.3", "false"),
        ("1234567890123.45 != 1234567890123.46", "true"),
    ],
)
def test_the_result_is_told_as_a_person_writes_it(expression: str, result: str) -> None:
    assert calculate(expression).text() == f"The result is {result}."


Term = tuple[str, int | float | None]
"""An expression, and what Python has for it: None where it divides by zero."""


def combined(one: Term, sign: str, other: Term) -> Term:
    text = f"({one[0]} {sign} {other[0]})"
    if one[1] is None or other[1] is None:
        return text, None
    try:
        return text, SIGNS[sign](one[1], other[1])
    except ZeroDivisionError:
        return text, None


SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
SIGNS |= {"//": operator.floordiv, "%": operator.mod}
numbers = st.integers(0, 10**6) | st.floats(1e-6, 1e6)
terms = st.recursive(
    numbers.map(lambda number: (repr(number), number)),
    lambda inner: st.builds(combined, inner, st.sampled_from(list(SIGNS)), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(terms)
def test_arithmetic_is_that_of_python(term: Term) -> None:
    expression, value = term
    if value is None:
        with pytest.raises(SkillFailed, match="divides by zero"):
            calculate(expression)
    else:
        assert calculate(expression).value == value


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("0123456789+-*/%().,[]<>=! eπabs", max_size=40))
def test_whatever_is_written_ends_well(expression: str) -> None:
    with contextlib.suppress(SkillError):
        assert isinstance(calculate(expression).value, int | float)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**9**9**9",
        "2**-9**-9**9",
        "(10**300)**(10**300)",
        "round(5, -10**9)",
        "10**290 * 10**290",
        "*".join(["9**300"] * 60),
        "exp(1000)",
        "1e999 - 1e999",
        "[1] * 10**9",
        "mean(10**300 * 10**300)",
        "-" * 499 + "1",
        "(" * 249 + "1" + ")" * 249,
    ],
)
def test_nothing_takes_long(expression: str) -> None:
    start = time.perf_counter()
    with contextlib.suppress(SkillError):
        calculate(expression)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("expression", "error", "told"),
    [
        ("1 / 0", SkillFailed, "divides by zero"),
        ("5 % 0", SkillFailed, "divides by zero"),
        ("0 ** -1", SkillFailed, "divides by zero"),
        ("9**9**9", SkillFailed, "becomes too large"),
        ("10**299 * 100", SkillFailed, "the result is too large"),
        ("sqrt(-1)", SkillFailed, "has no value"),
        ("(-8) ** (1/3)", SkillFailed, "has no value"),
        ("mean([])", SkillFailed, "has no value"),
        ("width * 2", BadSkillUse, "there is no 'width'; known: sqrt"),
        ("cosh(2)", BadSkillUse, "there is no 'cosh'; known: sqrt"),
        ("__import__('os')", BadSkillUse, "there is no '__import__'"),
        ("open('/etc/passwd')", BadSkillUse, "there is no 'open'"),
        ("(1).__class__", BadSkillUse, "only numbers, "),
        ("[1, 2][0]", BadSkillUse, "only numbers, "),
        ("[n for n in [1]]", BadSkillUse, "only numbers, "),
        ("lambda: 1", BadSkillUse, "only numbers, "),
        ("f'{1}'", BadSkillUse, "only numbers, "),
        ("'a' * 3", BadSkillUse, "'a' is not a number"),
        ("True + 1", BadSkillUse, "True is not a number"),
        ("3j * 3j", BadSkillUse, "3j is not a number"),
        ("sqrt + 1", BadSkillUse, "not lists or functions"),
        ("sqrt(1, 2)", BadSkillUse, "exactly one argument"),
        ("1,000 + 5", BadSkillUse, "1000 rather than 1,000"),
        ("x = 3", BadSkillUse, "cannot be read"),
        ("2 +", BadSkillUse, "cannot be read"),
        ("1; 2", BadSkillUse, "cannot be read"),
        ("\0", BadSkillUse, "cannot be read"),
        ("1 +" * 200, BadSkillUse, "at most 500"),
        ("", BadSkillUse, "at least 1"),
    ],
)
def test_what_is_wrong_is_named(expression: str, error: type[SkillError], told: str) -> None:
    with pytest.raises(error, match=told):
        calculate(expression)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simpleeval", None)
    with pytest.raises(BadConfiguration, match=r"llava-plus\[calculate\]"):
        Calculate().setup("cpu")


def test_a_skill_without_its_package_is_not_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("calculate", "llava_plus.skills.calculate:Calculate", GROUP)
    installed = {"calculate": InstalledSkill("calculate", "llava-plus", entry)}
    monkeypatch.setattr("llava_plus.skills.discovery.installed_skills", lambda: installed)
    monkeypatch.setattr("llava_plus.skills.readiness.installed_skills", lambda: installed)
    assert set(usable_skills()) == {"calculate"}
    monkeypatch.setattr(Calculate, "packages", Packages("calculate", ("a_package_of_nobody",)))
    assert usable_skills() == {}
    lacks = "a_package_of_nobody is missing: pip install llava-plus[calculate]"
    assert readiness("calculate").lacks == lacks
