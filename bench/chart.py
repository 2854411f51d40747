"""A line chart as SVG, without a library: relative time per packet by batch size."""

from math import log2

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 200, 40, 50
COLOURS = ("#444444", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7")


def draw(lines):
    """SVG of {label: [(batch size, time per packet)]}, scaled to the first line's last point."""
    lines = {label: points for label, points in lines.items() if points}
    base = next(iter(lines.values()))[-1][1]
    top = max(y for points in lines.values() for _, y in points) / base * 1.05
    sizes = sorted({x for points in lines.values() for x, _ in points})

    def across(size):
        return LEFT + (WIDTH - LEFT - RIGHT) * log2(size) / max(log2(sizes[-1]), 1)

    def up(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">Time per packet, both ways with control '
        "messages (largest batch in C = 1; less is better)</text>",
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        "messages in a batch</text>",
    ]
    step = 0.25 if top < 2 else 0.5
    for tick in range(int(top / step) + 1):
        y = up(tick * step)
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick * step:g}</text>'
        )
    for size in sizes:
        out.append(
            f'<text x="{across(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{size}</text>"
        )
    ends = sorted((up(points[-1][1] / base), label) for label, points in lines.items())
    places, last = {}, 0
    for y, label in ends:  # labels of lines that end close together are moved apart
        last = max(y, last + 15)
        places[label] = last
    for colour, (label, points) in zip(COLOURS, lines.items(), strict=False):
        path = " ".join(f"{across(x):.1f},{up(y / base):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [
            f'<circle cx="{across(x):.1f}" cy="{up(y / base):.1f}" r="3" fill="{colour}"/>'
            for x, y in points
        ]
        out.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{places[label] + 4:.1f}" fill="{colour}">'
            f"{label}</text>"
        )
    out.append("</svg>\n")
    return "\n".join(out)
