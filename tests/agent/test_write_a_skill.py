"""The tutorial `docs/write-a-skill.md`, run from its own text."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from .test_new_skill import run

PAGE = Path(__file__).parents[2] / "docs" / "write-a-skill.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorial")
    files = re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', PAGE.read_text(), flags=re.M | re.S)
    assert len(files) == 4
    for name, text in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_its_test_passes(package: Path) -> None:
    tested = run(sys.executable, "-m", "pytest", "-q", "tests", path=str(package), cwd=package)
    assert "3 passed" in tested


def test_it_installs_and_is_listed(package: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation")
    run(*pip, "--target", str(tmp_path), str(package))
    listed = run(sys.executable, "-m", "llava_plus.agent", "skills", "--json", path=str(tmp_path))
    (row,) = (row for row in json.loads(listed) if row["name"] == "sharpness")
    assert row["package"] == "llava-plus-sharpness"
    shown = run(sys.executable, str(package / "show_spec.py"), path=str(tmp_path))
    assert json.loads(shown)["parameters"] == row["parameters"]
    assert row["parameters"]["required"] == ["image"]
