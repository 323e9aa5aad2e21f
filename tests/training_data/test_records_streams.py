"""Files of records of any size: read piece by piece, written whole or not at all."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llava_plus.model.llava_plus.literals import read_literal
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.records import streams
from llava_plus.training_data.records.found import Found, Unreadable
from llava_plus.training_data.records.streams import read_values, written
from llava_plus.training_data.records.transfer import Notes, import_files

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
SPACE = st.text(" \t\r\n", max_size=3)
LIMIT = 24 * 1024 * 1024
"""Bytes that reading may take, however long the file is."""


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    path = tmp_path / "records.json"

    def write(text: str | bytes) -> Path:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def values(path: Path) -> list[Any]:
    return [found.value for found in read_values(path) if isinstance(found, Found)]


@pytest.mark.parametrize("chunk", [1, 3, 7, 1 << 18])
def test_an_array_is_read_as_json_reads_it_wherever_it_is_cut(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_CHUNK", chunk)
    path = tmp_path / "array.json"

    @given(st.lists(JSON, max_size=6), SPACE, st.booleans(), st.sampled_from([None, 1]))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(array: list[Any], space: str, ascii: bool, indent: int | None) -> None:
        text = json.dumps(array, ensure_ascii=ascii, indent=indent)
        path.write_text(f"{space}{text}{space}", encoding="utf-8", newline="")
        assert values(path) == json.loads(path.read_bytes())

    check()


def test_an_object_of_records_gives_each_with_its_number(file: Any) -> None:
    found = list(read_values(file('{"3": {"a": 1}, "10": {}}')))
    assert found == [Found(1, {"a": 1}, "3"), Found(2, {}, "10")]


def test_a_line_that_is_no_json_stops_no_other(file: Any) -> None:
    found = list(read_values(file(b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n{"a": "\xff"}\n{"a": 2}')))
    assert [one.value for one in found if isinstance(one, Found)] == [{"a": 1}, {"a": 2}]
    lost = [one for one in found if isinstance(one, Unreadable)]
    assert [(one.place, one.text) for one in lost] == [(3, '{"a": '), (4, '{"a": "\ufffd"}')]


@pytest.mark.parametrize("cut", ['{"a": 1, "b": "x', '{"a": 1'])
def test_a_first_line_that_was_cut_off_stops_no_other(file: Any, cut: str) -> None:
    path = file(f'{cut}\n{{"a": 2}}\n{{"a": 3}}\n')
    assert [type(found) for found in read_values(path)] == [Unreadable, Found, Found]
    assert values(path) == [{"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    "text", ['{\n "a": 1\n}\n{\n "a": 2\n}', '{"a":\n1}\n{"a": 2\n}\n', '{"a":\n1\n}{"a":2}']
)
def test_a_record_may_stand_over_several_lines(file: Any, text: str) -> None:
    assert values(file(text)) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("  \n", "it is empty"),
        ("hello", "it begins with 'h'"),
        ('[{"a": 1}, {"a"', "at character 15: Expecting ':' delimiter"),
        ('[{"a": 1}', "at character 9: a comma or the end of the array is missing"),
        ('[{"a": 1} {"a": 2}]', "at character 10: a comma"),
        ('[{"a": 1}] []', "stands behind the last record"),
        ('{"1": {}, "2" {}}', "a colon is missing"),
        ('{\n{"a": 2}', "at character 2: Expecting property name"),
        (b'["\xff"]', "not text in UTF-8"),
        ("[" * 100_000, "at character 1: maximum recursion"),
    ],
)
def test_a_file_that_breaks_off_is_named_with_the_place(
    file: Any, text: str | bytes, problem: str
) -> None:
    with pytest.raises(BadInput, match=rf"records\.json cannot be read: .*{problem}"):
        values(file(text))


def test_a_file_is_there_when_all_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), written(path) as file:  # noqa: PT012
        file.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    with written(path) as file:
        file.write("whole")
    assert [other.name for other in tmp_path.iterdir()] == ["out.jsonl"]
    assert path.read_text() == "whole"


@given(JSON.filter(lambda value: isinstance(value, dict | list)), st.text(max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_python_writes_of_a_value_is_read_and_where_it_ends(value: Any, behind: str) -> None:
    found = read_literal(f"x {value!r}{behind}", 2)
    assert found is not None
    assert (found.value, found.end) == (value, 2 + len(repr(value)))


@pytest.mark.parametrize(
    "text",
    [
        "{'a': __import__('os')}",
        "{'a': 1",
        "{1: 2}",
        "{'a': {1}}",
        "{'a': b'x'}",
        "a",
        "",
        "[" * 9999,
    ],
)
def test_what_is_no_plain_value_is_not_read(text: str) -> None:
    assert read_literal(text) is None


def many(count: int) -> Iterator[str]:
    """The text of one array of `count` small conversations."""
    yield "["
    for number in range(count):
        turns = [{"from": "human", "value": f"{number}?"}, {"from": "gpt", "value": "Yes."}]
        yield f"{',' if number else ''}{json.dumps({'id': number, 'conversations': turns})}"
    yield "]"


def peak(work: Callable[[], Any]) -> int:
    """The most bytes that Python held at once during `work`, beyond what it held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_hundred_thousand_records_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "array.json"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(many(100_000))
    read: list[int] = [0]

    def work() -> None:
        for _ in read_values(path):
            read[0] += 1

    assert path.stat().st_size > 10_000_000
    assert peak(work) < LIMIT / 8
    assert read == [100_000]


def test_an_import_takes_no_more_memory_for_more_records(tmp_path: Path) -> None:
    path, out = tmp_path / "array.json", tmp_path / "out.jsonl"
    notes = Notes(tmp_path / "refused.jsonl", tmp_path / "report.json")
    peaks = {}
    for count in (10, 200, 2000):  # the first one fills every cache
        with path.open("w", encoding="utf-8") as file:
            file.writelines(many(count))
        peaks[count] = peak(lambda: import_files([path], out, notes, format="llava"))
        assert len(out.read_text().splitlines()) == count
    assert peaks[2000] < LIMIT
    assert peaks[2000] < 1.5 * peaks[200] + (1 << 20)
