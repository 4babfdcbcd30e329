"""The performance profile: share of training problems solved to 1e-3 against time, ours, pyscnn, SGD and Adam.

    .venv-convex/bin/python dev/bench/convex_profile.py run --data ../shared/data/uci \\
        --out dev/bench/runs/<date>/convex-profile.jsonl --gates 500 --limit 20 --starts 10 --keep 2
    .venv-convex/bin/python dev/bench/convex_profile.py plot dev/bench/runs/<date>/convex-profile.jsonl PLOT.svg

A problem is a table (all rows, constant columns left out, columns of unit length, no bias; +-1 targets, or one-hot
with more than two classes) and a lambda of logspace(-5, -1, 6): the grid of Mishkin, Sahiner and Pilanci
(ICML 2022; their repository's figure_4), who use 5,000 gates (2,500 with ReLU) and, like this, drop the problems
whose minimum is the zero network. It is solved from the first moment at which F <= (1 + accuracy) F*. F* is
the best lower bound that a dual point gave (gated). With ReLU it is, as in the paper, the least F that anyone
found: the program over sampled gates bounds the network's minimum only from above, and descent may go below it.

Times: ours is run once to a gap of the accuracy (and once to 1e-8, for F*); pyscnn over its ladder of tolerances,
the earliest objective it reports counting (gated), or the network's at its end (ReLU); SGD and Adam are the
best of all starts and step sizes at each time, as if the best had been known (`dev/peers/convex_sgd.py`). `--limit`
is for a run of any. `run` appends, and leaves out what the file has; a whole run is long, so cut it by
`--tables`, `--lambdas`, `--starts`, `--keep` and `--total` (seconds for all the runs of SGD, or Adam, on a problem).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from convex_speed import ROOT, convex_problem, run_ours, run_peer  # noqa: E402

METHODS = {"convextune": "#06c", "pyscnn": "#c60", "sgd": "#393", "adam": "#909"}
BUDGETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


def read_table(folder):
    """X with unit columns, and Y."""
    with open(folder / "data.csv", encoding="utf-8") as file:
        names = file.readline().strip().split(",")
        cells = [line.strip().split(",") for line in file if line.strip()]
    place = names.index("class")
    labels = np.array([row[place] for row in cells])
    X = np.array([[float(v) for j, v in enumerate(row) if j != place] for row in cells])
    X = X[:, X.std(axis=0) > 0]
    classes = np.unique(labels)
    Y = np.where(labels == classes[0], -1.0, 1.0) if len(classes) == 2 else (labels[:, None] == classes) * 1.0
    return X / np.linalg.norm(X, axis=0), Y


def envelope(points):
    """The least objective so far, by time: (seconds, F) in order, each less than the one before by 1e-4 of it (but
    for the last), which keeps files small and is a tenth of the accuracy asked for."""
    least, last = [], None
    for seconds, value in sorted(points):
        if not least or value < least[-1][1] * (1 - 1e-4):
            least.append((seconds, value))
        if last is None or value < last[1]:
            last = (seconds, value)
    return least if not least or last[1] >= least[-1][1] else [*least, last]


def ours(folder, lam, options):
    """The trajectory and the best bound of ours, or None."""
    points, bound = [], None
    for tolerance in (options.accuracy, 1e-8):
        line = run_ours(folder, lam, options.activation, options.threads, options.limit, tolerance)
        if line and line["event"] == "result":
            points.append((line["seconds"], line["objective"]))
            bound = max(bound or 0.0, line["dual_value"])
    return {"trajectory": envelope(points), "bound": bound} if points else None


def peer(solver, folder, lam, options):
    """The same of a solver of `convex_peers.py`, its rungs together."""
    lines = run_peer(
        options.python, folder, lam, solver, options.activation, options.threads, options.limit, extra=("--trajectory",)
    )
    results = [line for line in lines if line["event"] == "result"]
    points = [tuple(p) for line in results for p in line["trajectory"]]
    points += [(line["seconds"] + line["setup_seconds"], line.get("network_objective", line["objective"])) for line in results]
    return {"trajectory": envelope(points), "bound": max((line["dual_value"] for line in results), default=None)}


def descent(method, folder, lam, target, options):
    """The same of SGD or Adam, which bound nothing."""
    command = [options.python, ROOT / "dev" / "peers" / "convex_sgd.py", folder, "--lambda", lam, "--method", method]
    command += ["--activation", options.activation, "--threads", options.threads, "--limit", options.limit]
    command += ["--starts", options.starts, "--keep", options.keep, "--rates", options.rates, "--total", options.total]
    run = subprocess.run([str(c) for c in command + ["--target", target]], stdout=subprocess.PIPE, check=True)
    *runs, best = map(json.loads, run.stdout.splitlines())
    points = [tuple(point) for run in runs for point in run["trajectory"]]
    return {"trajectory": envelope(points), "bound": None, "runs": best["runs"], "wall_seconds": best["wall_seconds"]}


def run_problem(where, folder, known, options, out):
    """All methods that the file does not have; ours and pyscnn first, since descent needs a target."""
    lam, done = where["lambda"], {line["method"]: line for line in known}

    def keep(method, compute):
        if method not in done and (found := compute()):
            done[method] = where | {"method": method} | found
            print(json.dumps(done[method]), file=out, flush=True)

    keep("convextune", lambda: ours(folder, lam, options))
    keep("pyscnn", lambda: peer("pyscnn", folder, lam, options))
    if "convextune" not in done:
        # Something has to say where the minimum is.
        solver = "skglm" if options.activation == "gated" else "clarabel"
        keep("reference", lambda: peer(solver, folder, lam, options))
    target = (1 + options.accuracy) * optimum(done.values())
    for method in ("sgd", "adam"):
        keep(method, lambda method=method: descent(method, folder, lam, target, options))


def optimum(lines):
    """F*: see the module."""
    lines = list(lines)
    bounds = [line["bound"] for line in lines if line["bound"]]
    least = min((line["trajectory"][-1][1] for line in lines if line["trajectory"]), default=0.0)
    return max(bounds) if bounds and lines[0]["activation"] == "gated" else least


def read_lines(path):
    """By problem."""
    problems = {}
    if path and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                problems.setdefault((line["table"], line["lambda"], line["activation"], line["gates"]), []).append(line)
    return problems


def run(options):
    """All problems."""
    known = read_lines(options.out)
    lambdas = options.lambdas or np.logspace(-5, -1, 6).tolist()
    tables = options.tables or sorted(p.name for p in Path(options.data).iterdir() if (p / "data.csv").exists())
    with open(options.out or os.devnull, "a", encoding="utf-8") as out:
        for table in tables:
            X, Y = read_table(Path(options.data) / table)
            G = convex_problem.sample_gates(X, options.gates, options.seed)
            most = convex_problem.Problem(X, Y, G, 0.0).lambda_max()
            with tempfile.TemporaryDirectory() as folder:
                convex_problem.write(folder, X, Y, G)
                for lam in (lam for lam in lambdas if lam < most):
                    print(f"{time.strftime('%H:%M:%S')} {table} {lam:.1e}", file=sys.stderr)
                    where = {
                        "table": table, "lambda": lam, "activation": options.activation, "gates": options.gates,
                        "found": G.shape[1], "rows": len(X), "features": X.shape[1], "lambda_max": most,
                        "outputs": 1 if Y.ndim == 1 else Y.shape[1], "threads": options.threads, "limit": options.limit,
                    }  # fmt: skip
                    here = known.get((table, lam, options.activation, options.gates), [])
                    run_problem(where, folder, here, options, out)


def solved_times(problems, accuracy):
    """By method, the seconds of each problem, infinite where it was not solved."""
    times = {method: [] for method in METHODS}
    for lines in problems.values():
        target = (1 + accuracy) * optimum(lines)
        found = {line["method"]: line["trajectory"] for line in lines}
        for method, list_of in times.items():
            list_of.append(next((t for t, value in found.get(method, []) if value <= target), math.inf))
    return times


def print_table(times):
    """Shares by budget, in markdown."""
    print("| solved within, s |" + "".join(f" {method} |" for method in times))
    print("|---|" + "---|" * len(times))
    share = lambda list_of, budget: f"{100 * sum(t <= budget for t in list_of) / len(list_of):.1f} %"
    for budget in (*BUDGETS, sys.float_info.max):
        name = f"{budget:g}" if budget < 1e9 else "at all"
        print(f"| {name} |" + "".join(f" {share(list_of, budget)} |" for list_of in times.values()))


def plot(times, output):
    """A step line a method, time on a logarithmic axis."""
    finite = [t for list_of in times.values() for t in list_of if t < math.inf] or [1.0]
    low = math.floor(math.log10(max(min(finite), 1e-6)))
    high = max(low + 1, math.ceil(math.log10(max(finite))))
    across = lambda t: 60 + 500 * (math.log10(max(t, 10.0**low)) - low) / (high - low)
    down = lambda share: 330 - 280 * share
    parts = ['<rect x="60" y="50" width="500" height="280" fill="none" stroke="#888"/>']
    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="50" x2="{x:.1f}" y2="330" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="346" text-anchor="middle" font-size="11">{10.0**power:g} s</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="54" y="{down(share) + 4:.1f}" text-anchor="end" font-size="11">{share:.0%}</text>')
    for i, (method, list_of) in enumerate(times.items()):
        points, solved = [(60.0, down(0))], 0
        for t in sorted(t for t in list_of if t < math.inf):
            points.append((across(t), down(solved / len(list_of))))
            solved += 1
            points.append((across(t), down(solved / len(list_of))))
        points.append((560.0, down(solved / len(list_of))))
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{METHODS[method]}" stroke-width="2"/>')
        parts.append(f'<text x="572" y="{66 + 18 * i}" fill="{METHODS[method]}">{method}</text>')
    count = len(next(iter(times.values())))
    parts.append(f'<text x="310" y="34" text-anchor="middle">Share of {count} problems solved against time</text>')
    body = "\n".join(parts)
    Path(output).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 670 360" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "plot"))
    parser.add_argument("files", nargs="*", help="of `plot`: the JSON lines, and where to draw")
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data" / "uci"))
    parser.add_argument("--out", help="JSON lines are appended here")
    parser.add_argument("--python", default=sys.executable, help="of the peers' environment")
    parser.add_argument("--activation", choices=("gated", "relu"), default="gated")
    parser.add_argument("--tables", nargs="*", help="only these")
    parser.add_argument("--lambdas", type=float, nargs="*", help="instead of logspace(-5, -1, 6)")
    parser.add_argument("--gates", type=int, default=500)
    parser.add_argument("--accuracy", type=float, default=1e-3)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of a run")
    parser.add_argument("--total", type=float, default=math.inf, help="seconds of all runs of SGD (or Adam) on a problem")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--keep", type=int, default=7, help="step sizes run from every start")
    parser.add_argument("--rates", default="10,5,1,0.5,0.1,0.01,0.001")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "run":
        run(options)
    else:
        times = solved_times(read_lines(options.files[0]), options.accuracy)
        print_table(times)
        plot(times, options.files[1])


if __name__ == "__main__":
    main()
