"""When each method came within 1e-3 of its minimum, from what optimum.sh printed.

    python3 dev/bench/optimum_table.py runs/<date>/optimum-<set>.jsonl

Work is in forward passes over the data (a tangent or an adjoint counts two): prior, preconditioner and
certificate are included in the first line of convextune's, which chooses Lambda; the others are given it. The
peers' minimum is bounded from below by plain CG's last objective less its gap bound, or, where that says nothing,
taken for the lowest objective that any of them reached; their evaluations are not counted.
"""

import json
import sys

WITHIN = 1e-3


def main():
    """Prints the table."""
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    print("| method | work | seconds | how far above the minimum, at most |")
    print("|---|---|---|---|")
    for line in lines:
        if "solver" in line:
            work = line["solver_work"]
            total = work["passes"] + 2 * (work["jvps"] + work["vjps"]) + line["preconditioner_cost"]
            total += line["prior_cost"]
            print(f"| convextune, {line['solver']} | {total:.0f} | {line['seconds']:.0f} | {line['bound']:.1e} |")
    runs = {}
    for line in lines:
        if "method" in line and "seconds" in line:
            runs.setdefault((line["method"], line.get("rate", "")), []).append(line)
    best = max((l["objective"] - l["gap_bound"] for l in runs.get(("cg", ""), [])), default=None)
    lowest = min(l["objective"] for run in runs.values() for l in run)
    if best is None or best < lowest * (1 - WITHIN):
        print("\nPlain CG has not come near enough to bound the peers' minimum: what follows is relative to the lowest")
        print("objective that any of them has reached, which flatters them.\n")
        best = lowest
    for (method, rate), run in runs.items():
        arrived = next((l for l in run if l["objective"] <= best * (1 + WITHIN)), None)
        line = arrived or min(run, key=lambda l: l["objective"])
        above = line["objective"] / best - 1
        note = "" if arrived else " (did not arrive)"
        print(f"| PyTorch, {method} {rate}{note} | {6 * line['passes']} | {line['seconds']:.0f} | {above:.1e} |")


if __name__ == "__main__":
    main()
