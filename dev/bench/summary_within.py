"""Test errors of fits without the most, the least informative, or random images, the same share of every class.

    python3 dev/bench/summary_within.py FOLDER --weights FILE --size 64 --out OUT.jsonl

As `convextune-bench influence FOLDER --what summary`, whose order takes no account of classes (easy classes
then lose nearly all their images first), with the same keys; by `convextune fit`, `rank --by informativeness` and folders of links. Lambda
and the backbone's scale are chosen anew in each fit, as a user would have it.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def call(options, *command):
    """The JSON of a command."""
    words = [options.ours, *command, "--json", "--quiet"]
    return json.loads(subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, check=True).stdout)


def fit(options, folder, *more):
    """A fit."""
    return call(options, "fit", folder, "--weights", options.weights, "--image-size", options.size, *more)


def without(options, classes, count, place):
    """Links to all but the first `count` images of every class; returns how many were dropped."""
    dropped = 0
    for name, files in classes.items():
        (place / "train" / name).mkdir(parents=True)
        number = round(count * len(files))
        for file in files[number:]:
            (place / "train" / name / file).symlink_to((options.folder / "train" / name / file).resolve())
        dropped += number
    (place / "test").symlink_to((options.folder / "test").resolve())
    return dropped


def main():
    """All fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with train and test")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--ours", default=str(ROOT / "target" / "release" / "convextune"))
    parser.add_argument("--shares", type=float, nargs="*", default=[i / 10 for i in range(1, 9)])
    parser.add_argument("--seeds", type=int, default=2, help="random orders")
    parser.add_argument("--out", required=True, help="JSON lines are appended here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model.safetensors"
        whole = fit(options, options.folder, "-o", model)
        order = [Path(r["sample"]).parts[-2:] for r in call(options, "rank", model, options.folder, "--by", "informativeness")]
    most = {}
    for name, file in order:
        most.setdefault(name, []).append(file)
    orders = [("most", 0, most), ("least", 0, {name: files[::-1] for name, files in most.items()})]
    for seed in range(options.seeds):
        draw = random.Random(seed)
        orders.append(("random", seed, {name: draw.sample(files, len(files)) for name, files in most.items()}))
    with open(options.out, "a", encoding="utf-8") as out:
        for share in options.shares:
            for dropped, seed, classes in orders:
                with tempfile.TemporaryDirectory() as place:
                    count = without(options, classes, share, Path(place))
                    found = fit(options, place)
                line = {
                    "what": "summary within classes", "folder": options.folder.name, "size": options.size, "dropped": dropped,
                    "seed": seed, "share": share, "count": count, "test_error": found["test_error"], "whole": whole["test_error"],
                }  # fmt: skip
                print(json.dumps(line), file=out, flush=True)


if __name__ == "__main__":
    main()
