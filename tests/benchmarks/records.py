"""What importing records takes: records a second, and memory, however many there are.

Run with `python tests/benchmarks/records.py [COUNT]`, by default a million. The baseline, parsing
and writing the same records with `json` alone, is measured in the same run.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from llava_plus.training_data.records.found import Found
from llava_plus.training_data.records.report import Report
from llava_plus.training_data.records.statistics import Statistics
from llava_plus.training_data.records.streams import read_values, written
from llava_plus.training_data.records.transfer import (
    Notes,
    export_file,
    import_files,
    read_records,
)
from rich.console import Console
from rich.table import Table

QUESTION = "Where are the girl and the cart?"
OUTPUT = (
    "{'boxes': [[0.35, 0.37, 0.66, 0.97], [0.0, 0.57, 0.69, 1.0]], 'logits': [0.51, 0.37], "
    "'phrases': ['girl', 'cart']}"
)
TURNS = [
    {"from": "human", "value": f"{QUESTION}\n<image>"},
    {
        "from": "gpt",
        "thoughts": "I need to find them first.",
        "actions": [{"API_name": "grounding_dino", "API_params": {"caption": "girl . cart ."}}],
        "value": "I will use grounding_dino to help to answer the question. Please wait.",
    },
    {
        "from": "human",
        "value": f"grounding_dino model outputs: {OUTPUT}\n\nPlease summarize the model outputs "
        f"and answer my first question: {QUESTION}",
    },
    {
        "from": "gpt",
        "thoughts": "Thanks to the output of grounding_dino.",
        "actions": [],
        "value": "The girl is at [0.35, 0.37, 0.66, 0.97], the cart at [0.0, 0.57, 0.69, 1.0].",
    },
]
TRACED = 2000
"""Records by which Python's own memory is measured: tracing it takes several times as long."""


def write_source(path: Path, count: int) -> None:
    """One JSON array of LLaVA-Plus's records."""
    with written(path) as file:
        for number in range(count):
            raw = {"unique_id": str(number), "image": "girl.jpg", "conversations": TURNS}
            file.write(("[" if number == 0 else ",\n") + json.dumps(raw))
        file.write("]")


def copy(source: Path, out: Path) -> None:
    """The baseline: every record parsed and written again, unchanged."""
    with written(out) as file:
        for found in read_values(source):
            if isinstance(found, Found):
                file.write(json.dumps(found.value) + "\n")


def count_all(path: Path) -> None:
    """What `llava-plus data stats` does."""
    statistics = Statistics()
    for record in read_records(path, Report()):
        statistics.add(record)


def seconds(work: Callable[[], object]) -> float:
    """Time on the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak(work: Callable[[], object]) -> float:
    """The most megabytes that Python held at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def main() -> None:
    """Measure, and print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = Table("", "records/s", "of the baseline", f"peak of {TRACED:,} (MB)", "resident (MB)")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source, few, records, out = (root / name for name in ("all", "few", "records", "out"))
        notes = Notes(root / "refused", root / "report")
        write_source(source, count)
        write_source(few, TRACED)
        steps: list[tuple[str, Callable[[Path], object]]] = [
            ("json alone", lambda path: copy(path, out)),
            ("import", lambda path: import_files([path], records, notes)),
            ("export to trl", lambda path: export_file(records, out, notes, to="trl")),
            (
                "export to llava-plus",
                lambda path: export_file(records, out, notes, to="llava-plus"),
            ),
            ("stats", lambda path: count_all(records)),
        ]
        peaks = [peak(lambda work=work: work(few)) for _, work in steps]
        baseline = 0.0
        for (name, work), megabytes in zip(steps, peaks, strict=True):
            speed = count / seconds(lambda work=work: work(source))
            baseline = baseline or speed
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            share = f"{speed / baseline:.0%}"
            table.add_row(name, f"{speed:,.0f}", share, f"{megabytes:.1f}", f"{resident:.0f}")
    Console().print(table, f"{count:,} records")


if __name__ == "__main__":
    main()
