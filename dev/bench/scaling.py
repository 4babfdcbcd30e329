"""How the time of a default fit grows with images, classes, side and threads; and a plot of it.

    python3 dev/bench/scaling.py measure FOLDER WEIGHTS runs/<date>/scaling.jsonl
    python3 dev/bench/scaling.py plot runs/<date>/scaling.jsonl runs/<date>/scaling.svg

`measure` makes image sets of links: where a class of FOLDER (with train and test) has too few pictures,
they are taken again, so the figures are of time, not of accuracy.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

BENCH = os.environ.get("BENCH") or pathlib.Path(__file__).resolve().parents[2] / "target" / "release" / "convextune-bench"
# (axis, images, classes, side, threads); axis names what varies.
SETTINGS = (
    [("images", n, 10, 96, 2) for n in (500, 1000, 2000, 4000)]
    + [("classes", 1000, c, 96, 2) for c in (2, 10, 50, 100)]
    + [("side", 500, 10, s, 2) for s in (64, 96, 128, 192, 256)]
    + [("threads", 500, 10, 128, t) for t in (1, 2)]
)
TITLES = {"images": "images", "classes": "classes", "side": "side in pixels", "threads": "threads"}


def make(source, images, classes, folder):
    """A set of `images` links in `classes` classes, and two test pictures a class."""
    names = sorted(p.name for p in (source / "train").iterdir() if p.is_dir())[:classes]
    if len(names) < classes:
        sys.exit(f"{source} has {len(names)} classes, not {classes}")
    for name in names:
        pictures = [p for part in ("train", "test") for p in sorted((source / part / name).iterdir())]
        for part, count in (("train", images // classes), ("test", 2)):
            target = folder / part / name
            target.mkdir(parents=True)
            for i in range(count):
                picture = pictures[i % len(pictures)]
                (target / f"{i}{picture.suffix}").symlink_to(picture.resolve())


def measure(source, weights, output):
    """One JSON line a setting."""
    with open(output, "a", encoding="utf-8") as out:
        for axis, images, classes, side, threads in SETTINGS:
            with tempfile.TemporaryDirectory() as folder:
                make(source, images, classes, pathlib.Path(folder))
                command = [BENCH, "study", folder, "--weights", weights, "--image-size", str(side)]
                environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
                run = subprocess.run(
                    command + ["--fit", "{}"], env=environment, stdout=subprocess.PIPE, check=True
                )
            report = json.loads(run.stdout)["report"]
            line = {"axis": axis, "images": images, "classes": classes, "side": side, "threads": threads}
            line |= {key: report[key] for key in ("seconds", "passes", "jvps", "vjps", "relative_gradient_norm")}
            print(json.dumps(line), file=out, flush=True)


def slope(points):
    """Of the least-squares line through the logarithms."""
    x, y = ([math.log(p[i]) for p in points] for i in (0, 1))
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def panel(axis, points, left):
    """One log-log plot, 260 by 240, as SVG."""
    low, high = min(p[0] for p in points), max(p[0] for p in points)
    bottom = 10 ** math.floor(math.log10(min(p[1] for p in points)))
    top = 10 ** math.ceil(math.log10(max(p[1] for p in points)))
    across = lambda v: left + 45 + 190 * math.log(v / low) / math.log(high / low)
    down = lambda v: 200 - 160 * math.log(v / bottom) / math.log(top / bottom)
    parts = [f'<rect x="{left + 45}" y="40" width="190" height="160" fill="none" stroke="#888"/>']
    parts.append(f'<text x="{left + 140}" y="28" text-anchor="middle">{TITLES[axis]}: slope {slope(points):.2f}</text>')
    for x, y in points:
        parts.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="4" fill="#06c"/>')
        parts.append(f'<text x="{across(x):.1f}" y="216" text-anchor="middle" font-size="10">{x}</text>')
        parts.append(f'<text x="{across(x):.1f}" y="{down(y) - 8:.1f}" text-anchor="middle" font-size="10">{y:.0f} s</text>')
    line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#06c"/>')
    for value in (bottom, top):
        parts.append(f'<text x="{left + 40}" y="{down(value) + 4:.1f}" text-anchor="end" font-size="10">{value:g} s</text>')
    return "\n".join(parts)


def plot(source, output):
    """All axes beside each other."""
    with open(source, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    panels = []
    for i, axis in enumerate(TITLES):
        points = sorted((line[axis], line["seconds"]) for line in lines if line["axis"] == axis)
        if len(points) > 1:
            panels.append(panel(axis, points, 260 * i))
    body = "\n".join(panels)
    output.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {260 * len(TITLES)} 230" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    if what == "measure":
        measure(pathlib.Path(paths[0]), paths[1], paths[2])
    else:
        plot(pathlib.Path(paths[0]), pathlib.Path(paths[1]))
