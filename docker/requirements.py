"""Print what extras of pyproject.toml want beside this package, one requirement a line.

    python docker/requirements.py mcp,page

So an image can hold the packages in one layer and this one, which changes more often, in another.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

__all__ = ["requirements"]

_OWN_EXTRAS = re.compile(r"llava-plus\[(.+)\]")


def requirements(project: Path, extras: list[str]) -> list[str]:
    """What the package and its `extras` want, those that extras name in turn included.

    Raises `KeyError` where there is no such extra.
    """
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    wanted: dict[str, None] = dict.fromkeys(table["dependencies"])
    waiting, begun = list(extras), set()
    while waiting:
        extra = waiting.pop()
        if extra in begun:
            continue
        begun.add(extra)
        for requirement in table["optional-dependencies"][extra]:
            if own := _OWN_EXTRAS.fullmatch(requirement):
                waiting += own[1].split(",")
            else:
                wanted[requirement] = None
    return list(wanted)


if __name__ == "__main__":
    names = [name for name in "".join(sys.argv[1:]).split(",") if name]
    print("\n".join(requirements(Path("pyproject.toml"), names)))  # noqa: T201
