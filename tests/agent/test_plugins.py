"""Plugins: installing a package is all that it takes, and a broken one takes nothing down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin-colours"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed into it, from a copy, without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "llava_plus_colours.py"):
        (source / name).write_bytes((EXAMPLE / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation")
    target = folder / "installed"
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=120)
    return target


def skills(*path: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, path))}
    command = [sys.executable, "-m", "llava_plus.agent", "skills", "--json"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=check
    )


def rows(*path: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(skills(*path).stdout)}


def package(folder: Path, name: str, entry: str, module: str = "") -> Path:
    """What installing a package leaves behind: metadata, and perhaps a module."""
    info = folder / f"{name}-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[llava_plus.skills]\n{entry}\n")
    if module:
        (folder / f"{name}.py").write_text(module)
    return folder


def test_the_example_is_listed_once_installed(installed: Path) -> None:
    row = rows(installed)["dominant_colours"]
    assert row["package"] == "llava-plus-colours"
    assert row["parameters"]["properties"]["count"]["maximum"] == 10


def test_the_examples_own_tests_pass(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "tests", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command,
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("entry", "module", "told"),
    [
        ("bad = bad:Skill", "import no_such_module", "No module named 'no_such_module'"),
        ("bad = bad:Skill", "raise SystemError('boom')", "SystemError: boom"),
        ("bad = bad:Gone", "x = 1", "has no attribute 'Gone'"),
        ("bad = bad:x", "x = 1", "is not a subclass of Skill"),
        ("bad = missing:x", "", "No module named 'missing'"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_error(
    tmp_path: Path, installed: Path, entry: str, module: str, told: str
) -> None:
    listed = rows(package(tmp_path, "bad", entry, module), installed)
    assert told in listed["bad"]["error"]
    assert "error" not in listed["dominant_colours"]


def test_two_packages_with_one_name_are_both_named(tmp_path: Path, installed: Path) -> None:
    other = package(tmp_path, "other", "dominant_colours = other:Skill")
    done = skills(installed, other, check=False)
    assert done.returncode == 2
    message = json.loads(done.stdout)["error"]["message"]
    assert "'llava-plus-colours'" in message
    assert "'other'" in message
