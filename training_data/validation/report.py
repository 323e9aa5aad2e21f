"""What a validation found: counts in memory, the findings themselves in a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ...agent.report import plain
from .findings import Problem, is_warning

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Validation"]

_EXAMPLES = 3
"""Records that a table names for each check."""


class Validation:
    """Counts records and findings; `details` gets each finding as one line of JSON.

    A record fails when it has an error; when `strict`, with a warning too.
    """

    def __init__(self, details: TextIO | None = None, *, strict: bool = False) -> None:
        self.read = self.failed = self.warned = self.written = 0
        self.findings: Counter[str] = Counter()
        self.records: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.others: dict[str, dict[str, int]] = {}
        """Other files that were read, each with its records, and how many could not be read."""
        self._strict = strict
        self._details = details
        self._examples: dict[str, list[str]] = {}

    def add(self, place: int, id: str, problems: Sequence[Problem]) -> bool:
        """Count a record with what was found in it, and say whether it passes."""
        self.read += 1
        checks = dict.fromkeys(problem.check for problem in problems)
        fails = any(self._strict or not is_warning(check) for check in checks)
        self.failed += fails
        self.warned += bool(checks) and not fails
        self.findings.update(problem.check for problem in problems)
        for check in checks:
            self.records[check] += 1
            examples = self._examples.setdefault(check, [])
            if len(examples) < _EXAMPLES:
                id = id.encode(errors="replace").decode()
                examples.append(f"{place} ({id})" if id else f"{place}")
        if self._details:
            for check, message in problems:
                told = {"id": id, "line": place, "level": _level(check), "check": str(check)}
                self._details.write(json.dumps({**told, "message": message}) + "\n")
        return not fails

    def figures(self) -> dict[str, Any]:
        """The counts as one object."""
        return {
            "records": self.read,
            "failed": self.failed,
            "with_warnings": self.warned,
            "written": self.written,
            "checks": {
                str(check): {
                    "level": _level(check),
                    "findings": count,
                    "records": self.records[check],
                }
                for check, count in self.findings.most_common()
            },
            "fields_left_out": dict(self.left_out.most_common()),
            "against": self.others,
        }

    def summary(self) -> str:
        """How many records were read, and how many of them fail."""
        warned = f", {self.warned:,} with warnings alone" if self.warned else ""
        return f"{self.read:,} records: {self.failed:,} with errors{warned}"

    def table(self) -> Table:
        """The findings by check, for a person to read."""
        from rich.markup import escape
        from rich.table import Table

        table = Table()
        for name in ("check", "findings", "records", "such as line"):
            table.add_column(name, justify="right" if name in ("findings", "records") else "left")
        for check, count in self.findings.most_common():
            warning = is_warning(check)
            table.add_row(
                f"{check} (warning)" if warning else str(check),
                f"{count:,}",
                f"{self.records[check]:,}",
                escape(plain(", ".join(self._examples[check]))),
                style="yellow" if warning else "",
            )
        return table


def _level(check: str) -> str:
    return "warning" if is_warning(check) else "error"
