"""`tune --weight-decay` beside a grid of full fits: the criterion along the path, its slope, and what both cost.

    .venv-peers/bin/python dev/bench/decay.py run FOLDER --weights WEIGHTS --out dev/bench/runs/<date>/decay.jsonl
    .venv-peers/bin/python dev/bench/decay.py table dev/bench/runs/<date>/decay.jsonl

A model is fitted to a part of FOLDER (with train and test), as in updates.py, with each of `--solvers`, and tuned.
The grid is a fit from the beginning with the solver and the s of the model at every Lambda of the path (logarithmically
spaced; of points closer than `--apart` in log Lambda, which the search adds, the first), conjugate gradients to a
relative gradient norm of 1e-6, as those of `tune`. Compared are

validation     tune --by validation with the mean squared residual of the test pictures (`predict`), and
leave-one-out  tune --by leave-one-out with that of `rank --by leave-one-out` on the fitted models

at each Lambda, and the slope in log Lambda at the points of `--slopes` (places on the path, 0 to 1) with central
differences of closed-form fits at Lambda exp(+-h) and Lambda exp(+-2h), extrapolated (Richardson; its error is of
order h^4). Outputs of a fit are good to some 1e-7, so that differences cannot check slopes below some 1e-3 of the
value to 1e-4: the table has the slope over the value beside each. Passes are over the training pictures; CPU seconds are of whole commands, starting and decoding included.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
from photos import Cli, append, arguments, link, pictures

CRITERIA = ("validation", "leave-one-out")


class Grid:
    """Full fits, each made once."""

    def __init__(self, cli, data, classes, *words):
        self.cli, self.data, self.classes, self.words, self.done = cli, data, classes, words, {}

    def __call__(self, weight_decay):
        """The criteria at a Lambda, and the cost of the fit."""
        weight_decay = float(f"{weight_decay:.12g}")
        if weight_decay not in self.done:
            model = self.data.parent / "grid.safetensors"
            fitted = self.cli.fit(self.data, *self.words, "--lambda-total", weight_decay, "-o", model)
            scores, labels = self.cli.scores(model, self.data / "test", self.classes)
            target = labels[:, None] == np.arange(len(self.classes))
            ranked = self.cli("rank", model, self.data, "--by", "leave-one-out")
            errors = np.mean([entry["score"] for entry in ranked]) / len(self.classes)
            criteria = {"validation": float(np.mean((target - scores) ** 2)), "leave-one-out": float(errors)}
            cost = {key: fitted[key] for key in ("passes", "cpu_seconds", "seconds", "test_error")}
            self.done[weight_decay] = criteria | cost
        return self.done[weight_decay]

    def slope(self, weight_decay, h):
        """Both slopes in log Lambda, extrapolated."""
        at = {k: self(weight_decay * math.exp(k * h)) for k in (-2, -1, 1, 2)}
        difference = lambda name, k: (at[k][name] - at[-k][name]) / (2 * k * h)
        return {name: (4 * difference(name, 1) - difference(name, 2)) / 3 for name in CRITERIA}


def thin(points, apart):
    """Points no closer than `apart` in log Lambda."""
    kept = []
    for point in points:
        if not kept or math.log(point["lambda"] / kept[-1]["lambda"]) >= apart:
            kept.append(point)
    return kept


def run(options, folder):
    """One set."""
    rng, source, cli = np.random.default_rng(options.seed), Path(options.folder), Cli(options)
    names = sorted(p.name for p in (source / "train").iterdir())
    classes = sorted(rng.choice(names, min(options.classes or len(names), len(names)), replace=False).tolist())
    data = folder / "data"
    for name in classes:
        for part, count in (("train", options.per_class), ("test", None)):
            own = [p for p in pictures(source / part) if p.startswith(f"{name}/")]
            link(own[:count], source / part, data / part)
    first = ()
    for solver in options.solvers:
        model, words = folder / f"{solver}.safetensors", ("--solver", solver, *first)
        fitted = cli.fit(data, *words, "-o", model)
        if not first:
            scale = ("--backbone-scale", fitted["backbone_scale"])
            first = (*scale, "--lambda-total", fitted["lambda_total"])
            closed = Grid(cli, data, classes, "--solver", "dual", *scale)
        precise = ("--solver", "pcg", "--solver-tolerance", 1e-6)
        grid = closed if solver == "dual" else Grid(cli, data, classes, *precise, *scale)
        for criterion in CRITERIA if solver == "dual" else CRITERIA[:1]:
            tuned = cli("tune", "--weight-decay", model, data, "--by", criterion)
            base = {"set": source.name, "classes": len(classes), "images": fitted["train_samples"], "criterion": criterion}
            append(options.out, base | {"solver": solver} | compare(options, tuned, grid, closed))


def compare(options, tuned, grid, closed):
    """The path, the slopes and the cost."""
    criterion, kept = tuned["criterion"], thin(tuned["points"], options.apart)
    path = [{"tuned": p, "fit": grid(p["lambda"])} for p in kept]
    slopes = []
    for place in options.slopes:
        point = kept[round(place * (len(kept) - 1))]
        slopes.append({"tuned": point, "fits": closed.slope(point["lambda"], options.step)[criterion]})
    best = grid(tuned["best"]["lambda"])
    total = lambda key: sum(pair["fit"][key] for pair in path)
    return {
        "method": tuned["method"],
        "before": tuned["before"],
        "path": path,
        "slopes": slopes,
        "best": {"tuned": tuned["best"], "fit": best},
        "worst_value_difference": max(abs(p["tuned"]["value"] / p["fit"][criterion] - 1) for p in path),
        "worst_slope_difference": max(abs(s["tuned"]["slope"] / s["fits"] - 1) for s in slopes),
        "tune": {key: tuned[key] for key in ("passes", "cpu_seconds", "wall_seconds", "converged", "at_end")},
        "trials": len(tuned["points"]),
        "grid": {"fits": len(path), "passes": total("passes"), "cpu_seconds": total("cpu_seconds"), "seconds": total("seconds")},
    }


def table(path):
    """Markdown."""
    print("| Set | Images | Criterion | From | Values against fits | Slopes against differences (over value) | Best Lambda, value | Least of the grid | Passes: tune, grid | CPU s: tune, grid |")
    print("|" + "---|" * 10)
    for line in map(json.loads, Path(path).read_text(encoding="utf-8").splitlines()):
        name, tune, grid, best = line["criterion"], line["tune"], line["grid"], line["best"]["tuned"]
        least = min(line["path"], key=lambda p: p["fit"][name])
        ratio = lambda s: f"{abs(s['tuned']['slope'] / s['fits'] - 1):.0e} ({s['tuned']['slope'] / s['tuned']['value']:.0e})"
        slopes = ", ".join(map(ratio, line["slopes"]))
        cells = [f"{line['set']} {line['classes']}", line["images"], name, line["method"], f"{line['worst_value_difference']:.1e}", slopes]
        cells += [f"{best['lambda']:.4g}, {best['value']:.6f}", f"{least['tuned']['lambda']:.4g}, {least['fit'][name]:.6f}"]
        cells += [f"{tune['passes']:.0f}, {grid['passes']:.0f} ({grid['fits']} fits)", f"{tune['cpu_seconds']:.1f}, {grid['cpu_seconds']:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |")


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("folder", help="images with train and test; of `table`: the JSON lines")
    arguments(parser)
    parser.add_argument("--classes", type=int, help="how many classes, drawn by seed")
    parser.add_argument("--per-class", type=int, help="training pictures of each")
    parser.add_argument("--solvers", nargs="*", default=["dual", "pcg"], help="of the model that is tuned")
    parser.add_argument("--apart", type=float, default=0.6)
    parser.add_argument("--slopes", type=float, nargs="*", default=[0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--step", type=float, default=0.1, help="h")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "table":
        table(options.folder)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        run(options, Path(folder))


if __name__ == "__main__":
    main()
