"""Time to a relative duality gap of 1e-6 on breast_cancer and digits, ours and public solvers, interleaved.

    .venv-convex/bin/python dev/bench/convex_speed.py run --out dev/bench/runs/<date>/convex-speed.jsonl
    .venv-convex/bin/python dev/bench/convex_speed.py table dev/bench/runs/<date>/convex-speed.jsonl

`run` makes each problem once (scikit-learn's data, a seeded stratified 70 % of the rows, standardised by them,
constant columns left out; +-1 targets, one-hot with ten classes; distinct patterns of seeded normal gates) and
runs the solvers on it in turn, a process each, for some rounds. In the first round a peer climbs its ladder
of tolerances; in the others it repeats only the rungs that count: the first at which the gap recomputed by
`dev/peers/convex_problem.py` is at most 1e-6, and the first at which the objective is within 1e-6 of the best
lower bound that any solver gave (which its own dual point may fail to show). A rung may take `--limit` seconds.

`table` prints medians and ranges over rounds, and ratios to ours. The clocks are the solvers' own: ours and
the peers' leave out reading the problem, and the peers' also making [D_1 X ... D_P X] and compiling;
Clarabel's set-up (equilibration, ordering) is added to its seconds.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dev" / "peers"))
import convex_problem  # noqa: E402

GAP = 1e-6
PEERS = {
    "gated": ("celer", "skglm", "pyscnn", "pyscnn32"),
    "relu": ("clarabel", "clarabel-faer", "pyscnn", "pyscnn32"),
}
# data:activation:gates:lambda
SETTINGS = [
    *(f"breast_cancer:gated:{gates}:{lam}" for gates in (500, 5000) for lam in ("1e-2", "1e-3", "1e-4")),
    *(f"breast_cancer:relu:{gates}:{lam}" for gates in (20, 60, 500) for lam in ("1e-2", "1e-3")),
    *(f"digits:gated:{gates}:{lam}" for gates in (500, 5000) for lam in ("1e-2", "1e-3")),
    *(f"digits:relu:{gates}:1e-2" for gates in (20, 60)),
]


def make_data(name, seed, rows):
    """Training rows X and targets Y; at most `rows` of them."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    X, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    X, _, labels, _ = train_test_split(X, labels, train_size=0.7, stratify=labels, random_state=seed)
    X, labels = X[:rows], labels[:rows]
    X = X[:, X.std(axis=0) > 0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    classes = np.unique(labels)
    Y = np.where(labels == classes[0], -1.0, 1.0) if len(classes) == 2 else (labels[:, None] == classes) * 1.0
    return X, Y


def run_ours(folder, lam, activation, threads, limit, tolerance=GAP):
    """The line of `convextune-bench gated`, or None where it cannot be had."""
    command = [ROOT / "target" / "release" / "convextune-bench", "gated", folder, "--lambda", str(lam)]
    command += ["--activation", activation, "--tolerance", str(tolerance), "--repeat", "1"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    try:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        return {"event": "timeout", "solver": "convextune", "limit": limit, "tolerance": tolerance}
    if run.returncode:
        print(f"ours left out: {run.stderr.strip().splitlines()[:1]}", file=sys.stderr)
        return None
    line = json.loads(run.stdout.strip().splitlines()[-1])
    if isinstance(line["seconds"], list):
        line["seconds"] = statistics.median(line["seconds"])
    return {"event": "result", "solver": "convextune", "threads": threads, "tolerance": tolerance} | line


def run_peer(python, folder, lam, solver, activation, threads, limit, tolerances=None, extra=()):
    """The results of `convex_peers.py`, one a rung; the process is killed at a rung that takes too long."""
    command = [python, ROOT / "dev" / "peers" / "convex_peers.py", folder, "--solver", solver, "--lambda", str(lam)]
    command += ["--activation", activation, "--threads", str(threads), "--target-gap", str(GAP), *extra]
    if tolerances:
        # Each of them, whatever gap it reaches.
        command += ["--tolerances", ",".join(f"{t:g}" for t in tolerances), "--target-gap", "-1"]
    lines, rung, deadline = [], None, None
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE)
    pending = b""
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([process.stdout], [], [], wait)[0]:
            process.kill()
            lines.append({"event": "timeout", "solver": solver, "limit": limit, "tolerance": rung})
            break
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        *whole, pending = (pending + chunk).split(b"\n")
        for line in map(json.loads, whole):
            if line["event"] == "start":
                rung, deadline = line["tolerance"], time.monotonic() + limit
            elif line["event"] == "solved":
                deadline = None
            else:
                lines.append(line)
    if process.wait() and not lines:
        lines.append({"event": "failed", "solver": solver, "status": process.returncode})
    return lines


def suboptimality(line, bound):
    """How far its objective is above the lower bound, relatively."""
    return (line["objective"] - bound) / line["objective"]


def rungs(lines, bound):
    """Tolerances of the first rung with the gap (or of the last there is), of the first with the objective, and,
    with pyscnn, of its default."""
    results = [line for line in lines if line["event"] == "result"]
    feasible = [line for line in results if line["violation_of_longest"] <= 1e-6]
    first = next((r for r in feasible if r["relative_duality_gap"] <= GAP), None)
    near = next((r for r in feasible if suboptimality(r, bound) <= GAP), None)
    if not results:
        return []
    default = results[0] if results[0]["solver"].startswith("pyscnn") else None
    return sorted({r["tolerance"] for r in (first or results[-1], near, default) if r}, reverse=True)


def run_setting(setting, options, out):
    """All rounds of all solvers on one problem."""
    data, activation, gates, lam = setting.split(":")
    X, Y = make_data(data, options.seed, options.rows)
    G = convex_problem.sample_gates(X, int(gates), options.seed)
    with tempfile.TemporaryDirectory() as folder:
        convex_problem.write(folder, X, Y, G)
        for threads in options.threads:
            chosen, seen = {}, []
            where = {"setting": setting, "threads": threads, "rows": len(X), "features": X.shape[1], "found": G.shape[1]}
            for turn in range(options.rounds):
                for solver in ("convextune", *options.peers.get(activation, ())):
                    if solver == "convextune":
                        line = run_ours(folder, lam, activation, threads, options.limit)
                        lines = [line] if line else []
                    elif turn and not chosen[solver]:
                        continue
                    else:
                        # A rung that was in time once may be somewhat late again.
                        limit = 2 * options.limit if turn else options.limit
                        common = (options.python, folder, lam, solver, activation, threads, limit)
                        lines = run_peer(*common, tolerances=chosen.get(solver))
                    for line in lines:
                        print(json.dumps(where | {"round": turn} | line), file=out, flush=True)
                    seen += lines
                if turn == 0:
                    bound = max((l["dual_value"] for l in seen if l["event"] == "result"), default=0.0)
                    for solver in options.peers.get(activation, ()):
                        chosen[solver] = rungs([l for l in seen if l["solver"] == solver], bound)


def table(lines):
    """Markdown."""
    print("| setting | threads | solver | tolerance | seconds, median (range, runs) | gap shown | above the best bound | "
          "violation (of longest) | times ours |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for setting, threads in dict.fromkeys((l["setting"], l["threads"]) for l in lines):
        here = [l for l in lines if (l["setting"], l["threads"]) == (setting, threads)]
        results = [l for l in here if l["event"] == "result"]
        bound = max((l["dual_value"] for l in results), default=0.0)
        seconds = lambda l: l["seconds"] + l.get("setup_seconds", 0.0)
        ours = [seconds(l) for l in results if l["solver"] == "convextune"]
        for solver in dict.fromkeys(l["solver"] for l in here):
            mine = [l for l in results if l["solver"] == solver]
            for tolerance in [GAP] if solver == "convextune" and mine else rungs([l for l in mine if l["round"] == 0], bound):
                runs = [l for l in mine if l["tolerance"] == tolerance]
                times, last = [seconds(l) for l in runs], runs[-1]
                median = statistics.median(times)
                ratio = f"{median / statistics.median(ours):.1f}" if ours else "-"
                violation = f"{last['constraint_violation']:.0e} ({last.get('violation_of_longest', 0):.0e})"
                print(f"| {setting} | {threads} | {solver} | {tolerance:.0e} | {median:.3g} ({min(times):.3g} to "
                      f"{max(times):.3g}, {len(times)}) | {last['relative_duality_gap']:.0e} | "
                      f"{suboptimality(last, bound):.0e} | {violation} | {ratio} |")  # fmt: skip
            for stop in (l for l in here if l["solver"] == solver and l["event"] != "result" and l["round"] == 0):
                what = f"more than {stop['limit']:g}" if stop["event"] == "timeout" else f"failed ({stop['status']})"
                print(f"| {setting} | {threads} | {solver} | {stop.get('tolerance') or '-'} | {what} | | | | |")


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", nargs="?", help="of `table`")
    parser.add_argument("--out", help="JSON lines are appended here")
    parser.add_argument("--python", default=sys.executable, help="of the peers' environment")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, help="data:activation:gates:lambda ...")
    parser.add_argument("--peers", nargs="*", help="only these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a rung may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="at most so many rows, to try the script")
    options = parser.parse_args()
    if options.what == "table":
        with open(options.file, encoding="utf-8") as file:
            return table([json.loads(line) for line in file])
    only = set(options.peers) if options.peers is not None else None
    options.peers = {a: [p for p in names if only is None or p in only] for a, names in PEERS.items()}
    with open(options.out or os.devnull, "a", encoding="utf-8") as out:
        for setting in options.settings:
            print(f"{time.strftime('%H:%M:%S')} {setting}", file=sys.stderr)
            run_setting(setting, options, out)
    return None


if __name__ == "__main__":
    main()
