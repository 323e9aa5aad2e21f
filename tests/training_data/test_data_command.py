"""`llava-plus data`: what a person sees of an import, an export and the counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.commands.data import _FORMATS, command
from llava_plus.training_data.records.formats import FORMATS
from llava_plus.training_data.records.report import Report
from llava_plus.training_data.records.transfer import TARGETS, read_records
from llava_plus.training_data.sequences import Sequences
from PIL import Image

from .records_samples import gpt, grounding, human, quirks, said


def run(*arguments: object) -> Result:
    """Raises what the program would tell in one line."""
    given = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, given, catch_exceptions=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tool-merge.json"
    path.write_text(json.dumps(quirks()), encoding="utf-8")
    return path


def test_an_import_tells_what_was_repaired_left_out_and_refused(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "records.jsonl"
    told = run("import", source, "--out", out).output
    for part in (
        "kept (",
        "python-repr",
        "image-outside",
        "left out: width",
        f"{out}.refused.jsonl",
    ):
        assert part in told.replace("\n", "")
    assert (tmp_path / "records.jsonl.refused.jsonl").exists()
    counts = json.loads(run("import", source, "--out", out, "--json").output)
    assert counts["read"] == counts["kept"] + counts["refused"] == len(quirks())
    assert counts["kept"] == len(out.read_text(encoding="utf-8").splitlines())


def test_several_files_become_one_and_records_without_ids_get_their_place(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.jsonl"]
    files[0].write_text(json.dumps([grounding(), grounding()]))
    files[1].write_text(json.dumps(said(human("<image>\nHi."), gpt("Hi."))))
    out = tmp_path / "records.jsonl"
    assert "id-added" in run("import", *files, "--out", out, "--from", "llava-plus").output
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert ids == ["a.json:1", "a.json:2", "b.jsonl:1"]
    assert not (tmp_path / "records.jsonl.refused.jsonl").exists()


def test_a_file_in_no_known_format_is_named_with_what_is_in_it(tmp_path: Path) -> None:
    source = tmp_path / "colours.jsonl"
    source.write_text('{"colour": "red"}\n')
    with pytest.raises(BadInput, match="its records have colour"):
        run("import", source, "--out", tmp_path / "records.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["colours.jsonl"]


def test_a_folder_that_is_not_there_is_told_before_anything_is_read(
    source: Path, tmp_path: Path
) -> None:
    result = run("import", source, "--out", tmp_path / "none" / "records.jsonl")
    assert result.exit_code == 2
    assert "there is no folder" in result.output


def test_records_are_exported_and_counted(source: Path, tmp_path: Path) -> None:
    records, back, rows = (tmp_path / name for name in ("r.jsonl", "back.json", "rows.jsonl"))
    run("import", source, "--out", records)
    count = len(records.read_text(encoding="utf-8").splitlines())
    assert f"{count} kept, 0 refused" in run("export", records, back, "--to", "llava-plus").output
    assert len(json.loads(back.read_text(encoding="utf-8"))) == count
    run("export", records, rows, "--to", "trl")
    assert len(rows.read_text(encoding="utf-8").splitlines()) == count
    picture = tmp_path / "counts.png"
    counts = json.loads(run("stats", records, "--plot", picture, "--json").output)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert counts["records"] == count
    assert counts["calls"]["detect"] > 10
    assert counts["errors"] == 1
    assert counts["steps"]["most"] == 6
    assert 0.9 < counts["with_image"] < 1
    told = run("stats", records).output
    assert f"records        {count}" in told
    assert "inpaint 1" in told


def test_stats_tell_what_share_of_the_tokens_is_learned(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    asked, answered = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
    records.write_text(json.dumps({"messages": [asked, answered]}))
    counts = json.loads(run("stats", records, "--lmm", "embedded", "--json").output)
    sequence = Sequences("embedded", ranked=False).of(next(read_records(records, Report())), {})
    total = len(sequence.ids)
    assert counts["tokens"]["median"] == total
    assert counts["learned"] == {
        "answer": round(sequence.parts.count("answer") / total, 4),
        "stop": round(1 / total, 4),
    }
    picture = tmp_path / "counts.png"
    run("stats", records, "--lmm", "embedded", "--plot", picture)
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height * 3, "four plots side by side"


def test_the_formats_on_offer_are_those_that_there_are() -> None:
    assert set(_FORMATS) == set(FORMATS)
    for target in TARGETS:
        assert target in run("export", "--help").output
