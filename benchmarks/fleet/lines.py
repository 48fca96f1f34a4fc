"""Line plots as plain SVG: a linear scale across, a logarithmic one up, labels at the ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from benchmarks.chart import MARGIN, STYLE, WIDTH, decades, plain

PLOT_HEIGHT = 260
HEAD = 46
FOOT = 48
LEFT = 60
RIGHT = 190
LABEL_STEP = 15

LINE_STYLE = """\
  .line { fill: none; stroke: #9aa7b4; stroke-width: 1.5; }
  .our-line { fill: none; stroke: #c2571a; stroke-width: 2.5; }
  @media (prefers-color-scheme: dark) {
    .line { stroke: #6b7785; }
    .our-line { stroke: #f0883e; }
  }
"""


@dataclass(frozen=True)
class Line:
    """One series; points go from left to right."""

    label: str
    points: Sequence[tuple[float, float]]
    ours: bool = False


@dataclass(frozen=True)
class Plot:
    """One pair of axes."""

    title: str
    across: str
    unit: str
    lines: Sequence[Line]


def render_plots(plots: Sequence[Plot], caption: str) -> str:
    """Return the SVG document, one plot below the other."""
    step = HEAD + PLOT_HEIGHT + FOOT
    height = step * len(plots) + 2 * MARGIN
    title = escape("; ".join(plot.title for plot in plots))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        f"<style>\n{STYLE}{LINE_STYLE}</style>",
    ]
    for number, plot in enumerate(plots):
        parts += _plot(plot, number * step)
    parts.append(_text(MARGIN, step * len(plots) + MARGIN, caption, "soft"))
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Scale:
    """From values to places on the page."""

    left: float
    right: float
    low: int
    high: int
    top: int

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.top + HEAD + PLOT_HEIGHT * (1 - share)


def _plot(plot: Plot, top: int) -> list[str]:
    points = [point for line in plot.lines for point in line.points]
    places = sorted({x for x, _ in points})
    low, high = decades([y for _, y in points])
    scale = _Scale(places[0], places[-1], low, high, top)
    parts = [_text(MARGIN, top + 26, plot.title, "title"), *_grid(plot, scale, places)]
    for line in plot.lines:
        path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in line.points)
        css = "our-line" if line.ours else "line"
        parts.append(f'<polyline class="{css}" points="{path}"/>')
    for line, y in _labelled(plot.lines, scale):
        css = "" if line.ours else "soft"
        parts.append(_text(scale.x(places[-1]) + 8, y + 4, line.label, css))
    return parts


def _grid(plot: Plot, scale: _Scale, places: Sequence[float]) -> list[str]:
    bottom = scale.top + HEAD + PLOT_HEIGHT
    parts = []
    for power in range(scale.low, scale.high + 1):
        y = scale.y(10.0**power)
        parts.append(
            f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        )
        parts.append(_text(LEFT - 6, y + 4, f"{plain(10.0**power)} {plot.unit}", "soft", "end"))
    parts += [_text(scale.x(x), bottom + 18, f"{x:.0%}", "soft", "middle") for x in places]
    parts.append(_text(WIDTH - RIGHT, bottom + 34, plot.across, "soft", "end"))
    return parts


def _labelled(lines: Sequence[Line], scale: _Scale) -> list[tuple[Line, float]]:
    """Return where each line's label stands: at its end, but not on top of another."""
    ends = [(line, scale.y(line.points[-1][1])) for line in lines]
    ordered = sorted(ends, key=lambda one: one[1])
    placed = ordered[:1]
    for (_, _), (line, y) in pairwise(ordered):
        placed.append((line, max(y, placed[-1][1] + LABEL_STEP)))
    return placed


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'
