"""The tutorial `docs/train.md`, run from its own text on small models."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from ..model.tiny_models import llava

PAGE = Path(__file__).parents[2] / "docs" / "train.md"

pytest.importorskip("peft")
pytest.importorskip("tensorboard")


def _commands(text: str) -> list[list[str]]:
    lines = re.findall(r"^\$ llava-plus (.+)$", text, flags=re.M)
    return [shlex.split(line) for line in lines]


def _run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "llava_plus.agent", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has before the first command: files of the page, two pictures, a LLaVA."""
    folder = tmp_path_factory.mktemp("tutorial")
    files = re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', PAGE.read_text(), flags=re.M | re.S)
    assert [name for name, _ in files] == ["requests.jsonl", "small.yaml"]
    for name, text in files:
        (folder / name).write_text(text)
    sign = Image.new("RGB", (420, 160), "white")
    ImageDraw.Draw(sign).text((40, 50), "NO EXIT", "black", ImageFont.load_default(48))
    sign.save(folder / "sign.png")
    Image.fromarray(data.astronaut()).save(folder / "portrait.jpg")
    llava(folder / "llava")
    return folder


def test_every_command_runs(folder: Path) -> None:
    first, stages = PAGE.read_text().split("## LLaVA's two stages")
    told = [_run(folder, *command) for command in _commands(first)]
    assert len(told) == 6
    assert "NO EXIT" in told[-1], "the trained model reads the sign with a skill"
    records = [json.loads(line) for line in (folder / "clean.jsonl").read_text().splitlines()]
    assert len(records) == 4
    assert (folder / "preview.html").stat().st_size > 10_000
    for name in ("stats.png", "run/loss.png"):
        with Image.open(folder / name) as drawn:
            drawn.verify()
    assert len((folder / "run/log.jsonl").read_text().splitlines()) == 3
    assert list((folder / "run/tensorboard").iterdir())
    shutil.copy(folder / "clean.jsonl", folder / "captions.jsonl")
    for command in _commands(stages)[:3]:
        _run(folder, *command)
    for name in ("stage1", "stage2", "lora"):
        assert (folder / name / "model" / "config.json").is_file()
        assert (folder / name / "model" / "chat_template.jinja").is_file()
