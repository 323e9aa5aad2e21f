"""Files of weights from a web server: told of, fetched, checked, and never half there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from llava_plus.skills.errors import BadConfiguration
from llava_plus.skills.weight_files import WeightFile

from ..serving import serving

NUMBERS = bytes(range(256)) * 5000
MD5 = hashlib.md5(NUMBERS, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> FastAPI:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "small.pth").write_bytes(NUMBERS)
    app = FastAPI()
    app.mount("/", StaticFiles(directory=tmp_path / "served"))
    return app


def test_a_file_is_fetched_once(server: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(server) as url:
        file = WeightFile("small.pth", url, MD5[:6])
        assert not file.is_present()
        download = file.download()
        assert (download.files, download.bytes) == (("small.pth",), len(NUMBERS))
        checked: list[str] = []
        download.fetch(checked.append)
    assert checked == ["small.pth"]
    assert file.is_present()
    assert file.fetched().read_bytes() == NUMBERS, "the server is gone by now"
    assert file.download().files == ()
    assert "small.pth" in capsys.readouterr().err, "a bar was shown"


@pytest.mark.parametrize(
    ("name", "md5", "told"),
    [("small.pth", "0" * 6, "came with the MD5"), ("other.pth", "", "cannot be fetched.*404")],
)
def test_what_cannot_be_had_leaves_nothing(server: FastAPI, name: str, md5: str, told: str) -> None:
    with serving(server) as url:
        file = WeightFile(name, url, md5)
        with pytest.raises(BadConfiguration, match=told):
            file.fetched()
    assert not file.is_present()
    assert list(file.path.parent.iterdir()) == []


def test_offline_and_paths_ask_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfiguration, match="there is no file"):
        WeightFile(str(tmp_path / "missing.pth"), "http://127.0.0.1:9").fetched()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadConfiguration, match="HF_HUB_OFFLINE forbids"):
        WeightFile("small.pth", "http://127.0.0.1:9").fetched()
    (tmp_path / "mine.pth").write_bytes(b"numbers")
    assert WeightFile(str(tmp_path / "mine.pth"), "").fetched() == tmp_path / "mine.pth"
