"""Test accuracy against the number of images dropped: the most, the least informative ones first, and random ones.

    python3 dev/bench/summary_plot.py dev/bench/runs/<date>/influence-summary.jsonl PLOT.svg

reads the lines of `convextune-bench influence FOLDER --what summary`, of one folder; random curves of several seeds are
each drawn.
"""

import json
import sys
from pathlib import Path

COLOURS = {"least": ("#06c", "least informative first"), "random": ("#888", "random"), "most": ("#c30", "most informative first")}
LEFT, RIGHT, TOP, BOTTOM = 60, 500, 50, 330


def curves(lines):
    """By kind, the distinct curves: (count, accuracy) from no image dropped on."""
    found = {}
    for line in lines:
        curve = found.setdefault((line["dropped"], line.get("seed")), {0: 1 - line["whole"]})
        curve[line["count"]] = 1 - line["test_error"]
    distinct = {}
    for (kind, _), curve in found.items():
        points = sorted(curve.items())
        if points not in distinct.setdefault(kind, []):
            distinct[kind].append(points)
    return distinct


def draw(found, folder):
    """The SVG."""
    points = [p for list_of in found.values() for curve in list_of for p in curve]
    most, low, high = max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points)
    low, high = int(low * 20) / 20, -(int(-high * 20) - 1) / 20
    across = lambda count: LEFT + (RIGHT - LEFT) * count / most
    down = lambda accuracy: BOTTOM - (BOTTOM - TOP) * (accuracy - low) / (high - low)
    text = lambda x, y, words, more="": f'<text x="{x:.1f}" y="{y:.1f}" {more}>{words}</text>'
    parts = []
    ticks = round((high - low) * 20)
    for i in range(ticks + 1):
        y = down(low + i / 20)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{low + i / 20:.0%}", 'text-anchor="end" font-size="11"'))
    for count in sorted({x for x, _ in points}):
        parts.append(text(across(count), BOTTOM + 16, count, 'text-anchor="middle" font-size="11"'))
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 36, "images dropped", 'text-anchor="middle"'))
    parts.append(text((LEFT + RIGHT) / 2, 28, f"Test accuracy after dropping images, {folder}", 'text-anchor="middle"'))
    ends = []
    for kind, (colour, words) in COLOURS.items():
        for curve in found.get(kind, []):
            line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in curve)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>' for x, y in curve]
        if kind in found:
            ends.append((down(found[kind][0][-1][1]), colour, words))
    place = TOP
    for y, colour, words in sorted(ends):
        place = max(y, place)
        parts.append(text(RIGHT + 10, place + 4, words, f'fill="{colour}"'))
        place += 18
    body = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 690 380" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def main():
    """See the module."""
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    folder = Path(lines[0]["folder"]).name
    Path(sys.argv[2]).write_text(draw(curves(lines), folder), encoding="utf-8")


if __name__ == "__main__":
    main()
