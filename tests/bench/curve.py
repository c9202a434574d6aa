# SPDX-License-Identifier: Apache-2.0
"""A growth curve as SVG: what an operation takes, over how much there is of something."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 40, 48
STYLE = ("text{font:12px sans-serif;fill:#333}.title{font-size:14px}.axis{stroke:#333}"
         ".grid{stroke:#ddd}.measured{stroke:#b33;fill:#b33}.bare{stroke:#36b;fill:#36b}"
         "polyline{fill:none!important;stroke-width:2}")


def _nice(value):
    """The next round number above it."""
    step = 1
    while step * 10 < value:
        step *= 10
    return next(step * factor for factor in (1, 2, 5, 10, 20) if step * factor >= value)


def _line(points, name):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
    return f'<polyline class="{name}" points="{path}"/>{dots}'


def svg(title, axis, unit, points):
    """`points`: (how much there is, measured, bare), ascending; drawn at even distances."""
    top = _nice(max(max(measured, bare) for _, measured, bare in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(index):
        return LEFT + wide * index / max(1, len(points) - 1)

    def y(value):
        return TOP + high * (1 - value / top)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">',
             f"<style>{STYLE}</style>",
             f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>']
    for step in range(5):
        value = top * step / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" '
                     f'y2="{y(value):.1f}"/><text x="{LEFT - 8}" y="{y(value) + 4:.1f}" '
                     f'text-anchor="end">{value:g}</text>')
    for index, (amount, _, _) in enumerate(points):
        parts.append(f'<text x="{x(index):.1f}" y="{HEIGHT - BOTTOM + 18}" '
                     f'text-anchor="middle">{amount:,}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f"{escape(axis)}</text>")
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}">{escape(unit)}</text>')
    parts.append(_line([(x(i), y(bare)) for i, (_, _, bare) in enumerate(points)], "bare"))
    parts.append(_line([(x(i), y(value)) for i, (_, value, _) in enumerate(points)], "measured"))
    parts.append(f'<text class="measured" x="{WIDTH - RIGHT}" y="20" text-anchor="end">'
                 "with so many</text>")
    parts.append(f'<text class="bare" x="{WIDTH - RIGHT}" y="34" text-anchor="end">'
                 "with one of each</text></svg>")
    return "\n".join(parts) + "\n"
