"""Files that list pictures, one JSON object a line, with something that is known of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..skills.errors import BadInput

__all__ = ["listed_pictures"]

Known = TypeVar("Known")


def listed_pictures(
    file: Path, known: Callable[[Path, dict[str, object]], Known], form: str
) -> Iterator[Known]:
    """What `known` makes of each line and of the path of its picture, from the folder of `file`.

    `known` raises `KeyError`, `TypeError` or `OSError` where something is not as it should be.
    Raises `BadInput` that names the line and tells `form`, how a line is to look.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not text in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or not isinstance(entry["image"], str):
                raise TypeError("image must be a text")
            made = known((file.parent / entry["image"]).resolve(), entry)
        except KeyError as error:
            raise BadInput(
                f"{file.name}:{number}: there is no {error}; a line is {form}"
            ) from error
        except (ValueError, TypeError, OSError) as error:
            raise BadInput(f"{file.name}:{number}: {error}; a line is {form}") from error
        yield made
