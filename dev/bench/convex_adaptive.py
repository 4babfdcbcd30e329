"""Priced gates against as many sampled ones: the objective of the same training problem.

    python3 dev/bench/convex_adaptive.py ../shared/data/uci --tables bank page-blocks wine-quality-white \\
        --lambda 0.01 0.003 --seeds 5 --out dev/bench/runs/<date>/convex-adaptive.jsonl

Runs `convextune nn fit --gates adaptive`, then `--gates N` with the N patterns it ended with and several seeds, and
with 4 N. All are solved to the same gap, and all are networks: the lower objective is the better network for
the same penalty. A line a fit in the file; printed is a row a problem.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def fit(table, lam, gates, seed, options):
    """The report of one fit on all rows."""
    command = [ROOT / "target" / "release" / "convextune", "nn", "fit", table, "--target", "class", "--task", "classification"]
    command += ["--holdout", "none", "--lambda", lam, "--gates", gates, "--seed", seed, "--tolerance", options.tolerance]
    command += ["--activation", options.activation, "--threads", options.threads, "--json", "--quiet"]
    start = time.monotonic()
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(run.stderr)
    report = json.loads(run.stdout)
    keys = ("objective", "dual_value", "relative_duality_gap", "gates", "neurons", "status", "train_error")
    return {k: report[k] for k in keys} | {"wall_seconds": time.monotonic() - start}


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of folders with a data.csv")
    parser.add_argument("--tables", nargs="+", required=True)
    parser.add_argument("--lambda", nargs="+", type=float, default=[0.01], dest="lambdas")
    parser.add_argument("--activation", choices=("gated", "relu"), default="gated")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", default=os.devnull)
    options = parser.parse_args()
    print("| table | lambda | gates | priced: objective, s | as many sampled, mean (least) of seeds, s | four times as many, s |")
    print("|---|---|---|---|---|---|")
    with open(options.out, "a", encoding="utf-8") as out:
        for name in options.tables:
            for lam in options.lambdas:
                table = options.data / name / "data.csv"
                keep = lambda kind, seed, report: print(
                    json.dumps({"table": name, "lambda": lam, "activation": options.activation, "kind": kind, "seed": seed} | report),
                    file=out, flush=True,
                )  # fmt: skip
                priced = fit(table, lam, "adaptive", 0, options)
                keep("adaptive", 0, priced)
                sampled = []
                for seed in range(options.seeds):
                    sampled.append(fit(table, lam, priced["gates"], seed, options))
                    keep("sampled", seed, sampled[-1])
                more = fit(table, lam, 4 * priced["gates"], 0, options)
                keep("sampled", 0, more)
                objectives = [s["objective"] for s in sampled]
                print(
                    f"| {name} | {lam:g} | {priced['gates']} | {priced['objective']:.6f}, {priced['wall_seconds']:.1f} | "
                    f"{statistics.mean(objectives):.6f} ({min(objectives):.6f}), "
                    f"{statistics.mean(s['wall_seconds'] for s in sampled):.1f} | {more['objective']:.6f}, {more['wall_seconds']:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
