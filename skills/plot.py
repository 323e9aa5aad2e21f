"""The skill that draws a chart of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from . import wording
from .charts import Kind, Name, Places, Series, Value, all_numbers, draw_chart, font_families
from .errors import BadSkillUse
from .extras import Packages, needing
from .skill import Image, Skill, SkillOutput

__all__ = ["Chart", "Plot"]

_MOST_SERIES, _MOST_SLICES = 10, 20
_CHARTS: dict[Kind, str] = {"histogram": "histogram", "scatter": "scatter plot"}

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class Chart(SkillOutput):
    """The picture of a chart, and what it shows: named series, `values` in all, in a range."""

    kind: Kind
    names: tuple[str, ...]
    values: int
    least: float
    most: float
    image: Image = Field(exclude=True, repr=False)

    def summary(self) -> str:
        """What was drawn, of how many values in which range."""
        chart = _CHARTS.get(self.kind, f"{self.kind} chart")
        of = f" of {wording.joined(self.names)}" if self.names else ""
        count = wording.counted(self.values, "value")
        least, most = wording.number_text(self.least), wording.number_text(self.most)
        return f"Drew a {chart}{of}: {count} from {least} to {most}."

    def images(self) -> Iterator[tuple[str, Image]]:
        """The picture of the chart."""
        yield "", self.image


class Plot(Skill):
    """Draws charts with matplotlib; one at a time, because its settings are the process's."""

    name = "plot"
    description = "Draw a chart of given numbers: line, bar, scatter, pie or histogram."
    packages: ClassVar[Packages] = Packages("plot", ("matplotlib",))

    def setup(self, device: str) -> None:
        """Import matplotlib. Raises `BadConfiguration` when it is not installed."""
        with needing(self.packages.extra, "plot"):
            self._families = font_families()

    def run(
        self,
        kind: Kind,
        series: Annotated[list[Series], Field(min_length=1, max_length=_MOST_SERIES)],
        x: Annotated[list[Value | Name], Field(min_length=1, max_length=1000)] | None = None,
        title: Label | None = None,
        x_label: Label | None = None,
        y_label: Label | None = None,
    ) -> Chart:
        """Draw the series; `x` has one number, or one name, for each value of every series."""
        _check(kind, series, x)
        picture = draw_chart(
            kind,
            series,
            x,
            title=title or "",
            x_label=x_label or "",
            y_label=y_label or "",
            families=self._families,
        )
        values = [value for one in series for value in one.values]
        return Chart(
            kind=kind,
            names=tuple(one.name for one in series if one.name),
            values=len(values),
            least=min(values),
            most=max(values),
            image=picture,
        )


def _check(kind: Kind, series: Sequence[Series], x: Places) -> None:
    """Raise `BadSkillUse` for series and an `x` that make no chart of this kind."""
    lengths = {len(one.values) for one in series}
    if kind == "histogram":
        if x is not None:
            raise BadSkillUse("plot: a histogram counts the values of its series; leave x out")
        return
    if x is not None:
        lengths.add(len(x))
    if len(lengths) > 1:
        raise BadSkillUse(
            "plot: every series, and x, need as many values as the others; there are "
            f"{wording.joined([str(length) for length in sorted(lengths)])}"
        )
    if kind == "scatter" and (x is None or not all_numbers(x)):
        raise BadSkillUse("plot: a scatter plot needs a number in x for each value")
    if kind == "pie":
        values = series[0].values
        if len(series) > 1 or len(values) > _MOST_SLICES:
            raise BadSkillUse(f"plot: a pie shows one series of up to {_MOST_SLICES} values")
        if min(values) < 0 or sum(values) == 0:
            raise BadSkillUse("plot: the slices of a pie are 0 or more, and not all of them 0")
