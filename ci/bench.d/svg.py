"""A line chart as SVG: light, without scripts or fonts of its own, readable on white and on black."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 190, 44, 52
# Told apart also by those who do not see red and green (Okabe and Ito).
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"]


def chart(title, x_label, y_label, series, log_y=True):
    """`series` is {name: [(x, y), ...]}; x is logarithmic, as everything here grows by tens."""
    points = [point for line in series.values() for point in line]
    x_axis = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, True)
    y_axis = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 22, title, size=15),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, anchor="middle"),
        text(10, TOP - 8, y_label),
    ]
    for value, at in y_axis.marks():
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, at + 4, short(value), anchor="end"))
    for value in sorted({x for x, _ in points}):
        at = x_axis.at(value)
        parts.append(f'<path d="M{at:.1f} {HEIGHT - BOTTOM}v5" stroke="#666"/>')
        parts.append(text(at, HEIGHT - BOTTOM + 19, short(value), anchor="middle"))
    parts.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#666"/>')
    labels = apart([(y_axis.at(line[-1][1]), name) for name, line in series.items() if line])
    for number, (name, line) in enumerate(series.items()):
        if not line:
            continue
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(text(WIDTH - RIGHT + 12, labels[name] + 4, name, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


class Axis:
    """Values to places."""

    def __init__(self, values, begin, end, is_log):
        self.begin, self.end, self.is_log = begin, end, is_log
        low, high = min(values), max(values)
        if is_log:
            low, high = math.log10(low), math.log10(high)
            if begin > end:  # of the y axis whole powers of ten
                low, high = math.floor(low), math.ceil(high)
        else:
            low, high = 0, high * 1.08
        self.low, self.high = (low, high) if high > low else (low - 0.5, high + 0.5)

    def at(self, value):
        share = ((math.log10(value) if self.is_log else value) - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def marks(self):
        if self.is_log:
            values = [10.0**power for power in range(math.floor(self.low), math.ceil(self.high) + 1)]
        else:
            step = 10 ** math.floor(math.log10(self.high / 2))
            step *= next(times for times in (1, 2, 5, 10) if self.high / (step * times) <= 6)
            values = [step * times for times in range(int(self.high / step) + 1)]
        return [(value, self.at(value)) for value in values]


def apart(labels, least=15):
    """Moves labels that would stand on one another."""
    places = {}
    before = -math.inf
    for at, name in sorted(labels):
        before = places[name] = max(at, before + least)
    return places


def text(x, y, words, anchor="start", size=None, colour="#222"):
    size = f' font-size="{size}"' if size else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{size}>{escape(words)}</text>'


def short(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
