"""Charts of numbers, drawn with matplotlib's objects and none of its global state but settings."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .canvas import COLOURS
from .wording import number_text, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = [
    "Kind",
    "Name",
    "Places",
    "Series",
    "Value",
    "all_numbers",
    "draw_chart",
    "font_families",
]

_SIZE, _DPI = (8.0, 5.0), 150
_LONGEST_NAME = 24
_MOST_NAMES = 40
"""Names under an axis; of more, only every second, third, ... is written."""
_LARGEST = 1e30
_WIDE_FAMILIES = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Arial Unicode MS")

Kind = Literal["line", "bar", "scatter", "pie", "histogram"]


def _drawable(value: float) -> float:
    if not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{value:g} is too large to draw")
    return value


Value = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_drawable)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]
Places = Sequence[float | str] | None
"""Where the values stand: at numbers, at names, or one after another."""


class Series(BaseModel):
    """Numbers that belong together, and what they are called."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: Annotated[list[Value], Field(min_length=1, max_length=1000)]
    name: Name = ""


def all_numbers(x: Sequence[float | str]) -> bool:
    """Whether the places are numbers, and none of them is a name."""
    return all(isinstance(place, float) for place in x)


def font_families() -> list[str]:
    """The fonts for charts that are here: matplotlib's own, and some for letters beyond Latin."""
    from matplotlib import font_manager

    here = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _WIDE_FAMILIES if name in here)]


def draw_chart(
    kind: Kind,
    series: Sequence[Series],
    x: Places = None,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    families: Sequence[str] = ("DejaVu Sans",),
) -> Image:
    """A picture of 1200 x 750 pixels; not to be called from two threads at once."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(families)):
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        handles = _DRAWN[kind](axes, series, x)
        axes.set_title(textwrap.fill(shorten(title, 200), 64))
        if kind != "pie":
            axes.set_xlabel(shorten(x_label, 70))
            axes.set_ylabel(shorten(y_label, 40))
            axes.grid(axis="both" if kind == "scatter" else "y")
            _name_series(figure, handles, series)
        return _picture(figure)


def _draw_lines(axes: Axes, series: Sequence[Series], x: Places) -> list[Any]:
    places = _places(axes, series, x)
    marker = "o" if len(places) <= 30 else ""
    return [axes.plot(places, one.values, marker=marker)[0] for one in series]


def _draw_points(axes: Axes, series: Sequence[Series], x: Places) -> list[Any]:
    places = _places(axes, series, x)
    return [axes.scatter(places, one.values, s=30, alpha=0.8, linewidth=0) for one in series]


def _draw_bars(axes: Axes, series: Sequence[Series], x: Places) -> list[Any]:
    count, width = len(series[0].values), 0.8 / len(series)
    first = (width - 0.8) / 2
    handles = []
    for number, one in enumerate(series):
        places = [place + first + number * width for place in range(count)]
        handles.append(axes.bar(places, one.values, width=width))
    _name_places(axes, x or _numbered(count))
    axes.axhline(0, color="0.3", linewidth=0.8)
    return handles


def _draw_histogram(axes: Axes, series: Sequence[Series], x: Places) -> list[Any]:
    values = [value for one in series for value in one.values]
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # too close together to tell apart
        margin = max(0.5, 0.05 * abs(high))
        low, high = low - margin, high + margin
    longest = max(len(one.values) for one in series)
    bins = min(40, max(5, round(math.sqrt(longest))))
    options: dict[str, Any] = {"range": (low, high), "edgecolor": "white"}
    options["alpha"] = 1 if len(series) == 1 else 0.6
    return [axes.hist(one.values, bins, **options)[2] for one in series]


def _draw_pie(axes: Axes, series: Sequence[Series], x: Places) -> list[Any]:
    values = series[0].values
    whole = sum(values)
    names = [_name(place) for place in x or _numbered(len(values))]
    slices, *_ = axes.pie(
        [value / whole for value in values],
        startangle=90,
        counterclock=False,
        wedgeprops={"edgecolor": "white"},
    )
    shares = [f"{name} ({value / whole:.1%})" for name, value in zip(names, values, strict=True)]
    axes.legend(slices, shares, loc="center left", bbox_to_anchor=(1, 0.5))
    return list(slices)


_DRAWN = {
    "line": _draw_lines,
    "bar": _draw_bars,
    "scatter": _draw_points,
    "pie": _draw_pie,
    "histogram": _draw_histogram,
}


def _name_series(figure: Figure, handles: Sequence[Any], series: Sequence[Series]) -> None:
    named = [
        (handle, shorten(one.name, _LONGEST_NAME))
        for handle, one in zip(handles, series, strict=True)
        if one.name
    ]
    if named:
        columns = max(1, 85 // max(len(name) + 8 for _, name in named))
        figure.legend(*zip(*named, strict=True), loc="outside lower center", ncols=columns)


def _numbered(count: int) -> list[float]:
    return [float(number) for number in range(1, count + 1)]


def _places(axes: Axes, series: Sequence[Series], x: Places) -> Sequence[float]:
    """Where on the x axis the values stand; names are written there."""
    from matplotlib.ticker import MaxNLocator

    if x is not None and not all_numbers(x):
        _name_places(axes, x)
        return range(len(x))
    places = [place for place in x or () if isinstance(place, float)]
    places = places or _numbered(len(series[0].values))
    if all(place.is_integer() for place in places):
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return places


def _name_places(axes: Axes, x: Sequence[float | str]) -> None:
    step = math.ceil(len(x) / _MOST_NAMES)
    names = [_name(place) for place in x[::step]]
    crowded = sum(map(len, names)) + 2 * len(names) > 80
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(0, len(x), step), names, **(turned if crowded else {}))


def _name(place: float | str) -> str:
    return shorten(place, _LONGEST_NAME) if isinstance(place, str) else number_text(place)


def _style(families: Sequence[str]) -> dict[Any, Any]:
    from cycler import cycler

    colours = [tuple(part / 255 for part in colour) for colour in COLOURS]
    return {
        "text.parse_math": False,  # a dollar sign is one
        "text.usetex": False,
        "font.family": list(families),
        "font.size": 11,
        "axes.titlesize": 14,
        "axes.titlepad": 12,
        "axes.prop_cycle": cycler(color=colours),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.edgecolor": "0.3",
        "figure.constrained_layout.h_pad": 0.12,
        "figure.constrained_layout.w_pad": 0.12,
        "grid.color": "0.88",
        "lines.linewidth": 2.2,
        "legend.frameon": False,
    }


def _picture(figure: Figure) -> Image:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image as Pillow

    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A letter that none of the fonts has is drawn as a box, as everywhere else.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        canvas.draw()
    return Pillow.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
