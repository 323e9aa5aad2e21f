"""Settings choose a backend, and a slip in them is named together with what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from llava_plus.skills import settings
from llava_plus.skills.backends import BACKENDS
from llava_plus.skills.backends.opencv import OpenCVDetector
from llava_plus.skills.errors import BadConfiguration


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("LLAVA_PLUS_CONFIG", str(path))
    return path


def test_without_settings_the_first_backend_serves():
    assert isinstance(settings.create_backend("detect"), OpenCVDetector)


def test_a_file_sets_backend_and_options(config: Path):
    config.write_text('[skills.detect]\nbackend = "opencv"\nthreads = 1\n')
    assert settings.create_backend("detect").threads == 1


def test_the_file_in_the_working_directory_counts():
    Path("llava-plus.toml").write_text("[skills.detect]\nthreads = 3\n")
    assert settings.create_backend("detect").threads == 3


def test_the_environment_goes_before_the_file(config: Path, monkeypatch: pytest.MonkeyPatch):
    config.write_text('[skills.detect]\nbackend = "other"\nweights = "x.pt"\n')
    monkeypatch.setenv("LLAVA_PLUS_DETECT_BACKEND", "opencv")
    assert isinstance(settings.create_backend("detect"), OpenCVDetector)


def test_sections_of_others_are_left_alone(config: Path):
    config.write_text('[lmm]\nmodel = "x"\n[skills.ocr]\nthreads = 1\n')
    assert settings.create_backend("ocr").threads == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[skills.detect]\nbackend = "opencb"', "did you mean 'opencv'"),
        ("[skills.detect]\nthread = 1", "did you mean 'threads'"),
        ("[skills.detcet]\nthreads = 1", "did you mean 'detect'"),
        ("[skills.crop]\nthreads = 1", "no skill with settings called 'crop'; known: .*detect"),
        ("[skills.detect]\nthreads = 0", "threads"),
        ('[skills.detect]\nthreads = "many"', "threads"),
        ("[skills]\ndetect = 1", "must be a table"),
        ("skills = 1", "must be a table"),
        ("[skills.detect", "not TOML"),
    ],
)
def test_a_slip_is_named(config: Path, text: str, words: str):
    config.write_text(text)
    with pytest.raises(BadConfiguration, match=words):
        settings.create_backend("detect")


def test_a_file_that_is_named_must_be_there(config: Path):
    with pytest.raises(BadConfiguration, match="not there"):
        settings.create_backend("detect")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BACKENDS, "detect", {"far": "package_that_is_not_here.module:Backend"})
    with pytest.raises(BadConfiguration, match="package_that_is_not_here"):
        settings.create_backend("detect")


@pytest.mark.parametrize("skill", BACKENDS)
def test_every_backend_that_is_named_is_there(skill: str, monkeypatch: pytest.MonkeyPatch):
    for name in BACKENDS[skill]:
        monkeypatch.setenv(f"LLAVA_PLUS_{skill.upper()}_BACKEND", name)
        assert hasattr(settings.create_backend(skill), "load")
