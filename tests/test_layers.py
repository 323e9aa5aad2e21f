"""Arrows go down only: no room imports one above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["skills", "model", "agent", "training_data"]


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a source file imports from, at any depth of the code."""
    package = path.relative_to(ROOT).parts
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level or not (node.module or "").startswith("llava_plus"), path
            if node.level == len(package):
                rooms.add((node.module or "").split(".")[0])
    return rooms & set(FLOORS)


@pytest.mark.parametrize("floor", range(len(FLOORS)), ids=FLOORS)
def test_no_room_imports_one_above_it(floor: int) -> None:
    above = set(FLOORS[floor + 1 :])
    for path in (ROOT / FLOORS[floor]).rglob("*.py"):
        assert not imported_rooms(path) & above, path
