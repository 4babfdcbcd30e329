"""`rank --fast` beside `rank`: how alike their orders are. One JSON line a score.

    python dev/bench/rank_fast.py MODEL FOLDER [--by mislabel ...] >> dev/bench/runs/<date>/rank-fast.jsonl

MODEL was fitted on FOLDER (with train/ and test/), and its images are few enough to be ranked exactly. `pearson` and
`spearman` compare scores and places, `top` is the share of the first tenth that is in the first tenth of both,
`ratio` the median of approximate to exact, `same` the share of images with the same partner or class.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SCORES = ("mislabel", "leave-one-out", "informativeness", "duplicates", "uncertainty")


def rank(options, by, *more):
    """Scores by sample, and the seconds of the command."""
    folder, photos = options.folder, []
    if by == "uncertainty":
        folder, photos = folder / "test", ["--photos", options.folder]
    command = [ROOT / "target" / "release" / "convextune", "rank", options.model, folder, "--by", by, "--json", "-q"]
    begin = time.monotonic()
    run = subprocess.run([str(c) for c in (*command, *photos, *more)], stdout=subprocess.PIPE, check=True)
    return {line["sample"]: line for line in json.loads(run.stdout)}, time.monotonic() - begin


def places(values):
    """Of each value, its place in the order."""
    return np.argsort(np.argsort(values)).astype(float)


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by", nargs="*", choices=SCORES, default=SCORES)
    options = parser.parse_args()
    for by in options.by:
        (exact, exact_seconds), (fast, fast_seconds) = rank(options, by), rank(options, by, "--fast")
        names = sorted(exact)
        a, b = (np.array([lines[name]["score"] for name in names]) for lines in (exact, fast))
        tenth = max(1, len(names) // 10)
        first = [set(np.argsort(-v, kind="stable")[:tenth]) for v in (a, b)]
        same = [exact[name].get("other") == fast[name].get("other") for name in names]
        line = {
            "model": options.model.name, "folder": options.folder.name, "by": by, "images": len(names),
            "pearson": np.corrcoef(a, b)[0, 1], "spearman": np.corrcoef(places(a), places(b))[0, 1],
            "top": len(first[0] & first[1]) / tenth, "ratio": float(np.median(b / np.maximum(a, 1e-30))),
            "same": float(np.mean(same)), "residual": fast[names[0]]["residual"], "exact": fast[names[0]]["exact"],
            "exact_seconds": exact_seconds, "fast_seconds": fast_seconds,
        }  # fmt: skip
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
