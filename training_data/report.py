"""An evaluation as a page: figures with intervals, who was taken for whom, the failing cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .evaluate import Report, interval

__all__ = ["write_page"]


def write_page(report: Report, lmm: str, path: Path) -> None:
    """Write the report as one HTML file that needs nothing else."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    counts = report.choices()
    largest: Counter[str] = Counter()
    for (wanted, _), count in counts.items():
        largest[wanted] = max(largest[wanted], count)
    page = environment.get_template("report.html.jinja").render(
        lmm=lmm,
        cases=len(report.verdicts),
        seconds=report.figures()["median_seconds"],
        figures=[(*count, *interval(*count[1:])) for count in report.counts() if count[2]],
        rows=sorted({wanted for wanted, _ in counts}),
        chosen=sorted({chosen for _, chosen in counts}),
        counts=counts,
        largest=largest,
        failures=[
            {
                "id": verdict.case.id,
                "request": verdict.case.request,
                "wanted": verdict.expected_text,
                "got": verdict.given_text,
            }
            for verdict in report.failures()
        ],
    )
    path.write_text(page, encoding="utf-8")
