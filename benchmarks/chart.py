"""The chart: horizontal bars on a logarithmic scale, one panel per figure, plain SVG.

No plotting library: a few rectangles need none, and the text stays text. The colours follow the
reader's light or dark setting through a media query inside the file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
LABEL_WIDTH = 210
VALUE_WIDTH = 150
BAR_HEIGHT = 18
BAR_STEP = 26
PANEL_HEAD = 46
PANEL_FOOT = 34
MARGIN = 14

STYLE = """\
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .soft { fill: #59636e; font-size: 12px; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .bar { fill: #9aa7b4; }
  .ours { fill: #c2571a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .soft { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .bar { fill: #6b7785; }
    .ours { fill: #f0883e; }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One bar; `note` stands behind its value."""

    label: str
    value: float
    note: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """One figure of all entrants."""

    title: str
    unit: str
    bars: Sequence[Bar]

    @property
    def height(self) -> int:
        """The panel's height with its title and its scale."""
        return PANEL_HEAD + BAR_STEP * len(self.bars) + PANEL_FOOT


def decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten between which all values lie, with room for the shortest bar."""
    low = math.floor(math.log10(min(values) / 2))
    high = math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def position(value: float, low: int, high: int) -> float:
    """Return where a value lies on the scale, 0 to 1."""
    return (math.log10(value) - low) / (high - low)


def plain(value: float) -> str:
    """Write a number with three digits that matter and thousands set apart."""
    if value >= 100:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.3g}"


def render(panels: Sequence[Panel], caption: str) -> str:
    """Return the SVG document; panels without bars are left out."""
    shown = [panel for panel in panels if panel.bars]
    height = sum(panel.height for panel in shown) + 2 * MARGIN
    title = escape("; ".join(panel.title for panel in shown))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        f"<style>\n{STYLE}</style>",
    ]
    top = 0
    for panel in shown:
        parts += _panel(panel, top)
        top += panel.height
    parts.append(_text(MARGIN, top + MARGIN, caption, "soft"))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _panel(panel: Panel, top: int) -> list[str]:
    left, right = LABEL_WIDTH, WIDTH - VALUE_WIDTH
    low, high = decades([bar.value for bar in panel.bars])
    bottom = top + PANEL_HEAD + BAR_STEP * len(panel.bars)
    parts = [_text(MARGIN, top + 26, panel.title, "title")]
    for power in range(low, high + 1):
        x = left + (right - left) * (power - low) / (high - low)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{top + PANEL_HEAD - 6}" x2="{x:.1f}" '
            f'y2="{bottom}"/>'
        )
        parts.append(_text(x, bottom + 15, f"{plain(10.0**power)} {panel.unit}", "soft", "middle"))
    for number, bar in enumerate(panel.bars):
        y = top + PANEL_HEAD + BAR_STEP * number
        width = max(2.0, (right - left) * position(bar.value, low, high))
        parts += _bar(bar, left, y, width)
    return parts


def _bar(bar: Bar, left: float, y: float, width: float) -> list[str]:
    middle = y + BAR_HEIGHT - 5
    css = "ours" if bar.ours else "bar"
    value = f"{plain(bar.value)}{f' ({bar.note})' if bar.note else ''}"
    size = f'width="{width:.1f}" height="{BAR_HEIGHT}" rx="2"'
    return [
        _text(left - 8, middle, bar.label, anchor="end"),
        f'<rect class="{css}" x="{left:.1f}" y="{y:.1f}" {size}/>',
        _text(left + width + 6, middle, value),
    ]
