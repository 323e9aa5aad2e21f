"""Records as tables of Arrow, a group of rows at a time: what data sets on the hub come in.

The layout of a record is that of its JSON, with three columns of JSON text, `tools`, `made` and
`masks`, since a table has the same fields in every row and those have not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...model.record import Record
from ...skills.errors import BadConfiguration, BadInput
from .found import Found, Told, Unreadable

if TYPE_CHECKING:
    import pyarrow

__all__ = ["is_table", "read_rows", "written_rows"]

_MAGIC = b"PAR1"
_AT_ONCE = 256
_TEXTS = ("tools", "made", "masks")


def is_table(path: Path) -> bool:
    """Whether a file is Parquet, by its first bytes. Raises `OSError`."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_rows(path: Path, told: Told) -> Iterator[Found | Unreadable]:
    """The rows of a table, without the fields that are null; columns of JSON text are read.

    An image that is in the table itself becomes a `data:` URL. Raises `BadInput` when the table
    is damaged, `BadConfiguration` when pyarrow is not installed.
    """
    arrow = _arrow()
    size = path.stat().st_size
    try:
        with arrow.parquet.ParquetFile(path) as table:
            place = 0
            for batch in table.iter_batches(batch_size=_AT_ONCE):
                for row in batch.to_pylist():
                    place += 1
                    try:
                        yield Found(place, _plain(row))
                    except ValueError as error:
                        yield Unreadable(place, repr(row), str(error))
                told(size * place // max(1, table.metadata.num_rows))
    except arrow.ArrowException as error:
        raise BadInput(str(error)) from error


def _plain(row: dict[str, Any]) -> Any:
    """A row as it would stand in JSON lines."""
    value = _without_nulls(row)
    for name in ("messages", *_TEXTS):
        if isinstance(text := value.get(name), str):
            value[name] = json.loads(text)
    for name in ("images", "image"):
        if name in value:
            value[name] = _named(value[name])
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _named(image: Any) -> Any:
    """An image in the form of the `datasets` library as its content, else as its path."""
    if isinstance(image, list):
        return [_named(one) for one in image]
    if isinstance(image, dict) and isinstance(image.get("bytes"), bytes):
        return f"data:image/any;base64,{base64.b64encode(image['bytes']).decode('ascii')}"
    return image


@contextmanager
def written_rows(path: Path) -> Iterator[Callable[[Record], None]]:
    """A table that takes records, and is there when all have been written, else as it was.

    Raises `BadConfiguration` when pyarrow is not installed.
    """
    arrow = _arrow()
    schema = _schema(arrow)
    part = path.with_name(f"{path.name}.part")
    rows: list[dict[str, Any]] = []
    try:
        with arrow.parquet.ParquetWriter(part, schema, compression="zstd") as table:

            def flush() -> None:
                table.write_table(arrow.Table.from_pylist(rows, schema=schema))
                rows.clear()

            def put(record: Record) -> None:
                rows.append(_row(record))
                if len(rows) == _AT_ONCE:
                    flush()

            yield put
            flush()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _row(record: Record) -> dict[str, Any]:
    row = record.to_json()
    row["messages"] = [_with_parts(message) for message in row["messages"]]
    return row | {name: json.dumps(row[name], ensure_ascii=False) for name in _TEXTS}


def _with_parts(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose content is a list of parts, whatever it was."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content}]}
    return message


def _schema(arrow: Any) -> pyarrow.Schema:
    text = arrow.string()
    part = arrow.struct({"type": text, "text": text})
    function = arrow.struct({"name": text, "arguments": text})
    call = arrow.struct({"id": text, "type": text, "function": function})
    message = {
        "role": text,
        "content": arrow.list_(part),
        "reasoning_content": text,
        "tool_calls": arrow.list_(call),
        "tool_call_id": text,
        "name": text,
    }
    columns = {
        "id": text,
        "source": text,
        "messages": arrow.list_(arrow.struct(message)),
        "tools": text,
        "images": arrow.list_(text),
        "made": text,
        "masks": text,
        "data": arrow.list_(text),
    }
    return arrow.schema(columns)


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BadConfiguration(
            'Parquet needs pyarrow: pip install "llava-plus[parquet]"'
        ) from error
    return pyarrow
