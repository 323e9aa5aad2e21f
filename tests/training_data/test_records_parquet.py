"""Records as Parquet: there and back the same, tables of others, and damaged ones."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llava_plus.agent import cli
from llava_plus.model.conversation import Conversation
from llava_plus.model.record import Record
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.records.found import Found, Unreadable
from llava_plus.training_data.records.parquet import written_rows
from llava_plus.training_data.records.report import Report
from llava_plus.training_data.records.streams import read_values
from llava_plus.training_data.records.transfer import Notes, import_files, read_records
from PIL import Image

from .conversations_drawn import records

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

MANY = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@given(st.lists(records(), min_size=1, max_size=4))
@MANY
def test_records_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[Conversation, Record]]
) -> None:
    wanted = [record for _, record in drawn]
    file = tmp_path_factory.mktemp("table") / "records.parquet"
    with written_rows(file) as put:
        for record in wanted:
            put(record)
    report = Report()
    assert list(read_records(file, report)) == wanted
    assert report.refused == 0


def _asked(tmp_path: Path, count: int) -> Path:
    """A JSON-lines file of questions and answers, and one line that is no record."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}]
    lines = [json.dumps({"id": f"r{n}", "messages": messages}) for n in range(count)]
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join([*lines, '{"messages": 3}']))
    return file


def test_import_writes_a_table_that_stats_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = _asked(tmp_path, 600), tmp_path / "out.parquet"
    assert cli.main(["data", "import", str(source), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == 600
    assert (tmp_path / "out.parquet.refused.jsonl").read_text().count("\n") == 1
    assert parquet.ParquetFile(out).metadata.num_row_groups == 3, "groups of rows, not all at once"
    assert cli.main(["data", "stats", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 600


def test_bytes_that_were_read_are_told_up_to_the_size_of_the_file(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    import_files([_asked(tmp_path, 300)], out, Notes(tmp_path / "refused.jsonl"))
    heard: list[int] = []
    assert len(list(read_values(out, heard.append))) == 300
    assert heard == sorted(heard)
    assert heard[-1] == out.stat().st_size


def test_images_inside_a_table_become_files(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(buffer, "PNG")
    content = [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "Red."}]},
    ]
    images = [{"bytes": buffer.getvalue(), "path": "red.png"}]
    table = pyarrow.Table.from_pylist([{"messages": messages, "images": images}])
    parquet.write_table(table, tmp_path / "theirs.parquet")
    out = tmp_path / "mine.jsonl"
    report = import_files([tmp_path / "theirs.parquet"], out, Notes(tmp_path / "refused.jsonl"))
    assert (report.kept, report.refused) == (1, 0)
    (record,) = read_records(out, Report())
    with Image.open(tmp_path / record.images["img_1"]) as kept:
        assert kept.getpixel((0, 0)) == (255, 0, 0)


def test_broken_json_in_a_column_stops_no_other_row(tmp_path: Path) -> None:
    rows = [{"tools": "["}, {"tools": "[]"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    first, second = read_values(tmp_path / "rows.parquet")
    assert isinstance(first, Unreadable)
    assert second == Found(2, {"tools": []})


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(BadInput, match=r"cut\.parquet cannot be read"):
        list(read_values(file))


def test_a_failed_import_leaves_no_table(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"as before")
    bad = tmp_path / "bad.json"
    bad.write_text('[{"messages": []')
    with pytest.raises(BadInput):
        import_files([bad], out, Notes(tmp_path / "refused.jsonl"), format="openai")
    assert out.read_bytes() == b"as before"
    assert not list(tmp_path.glob("*.part"))
