"""Leave-one-out error beside test error over image sets and draws, and with a head that has seen the labels.

    .venv-peers/bin/python dev/bench/calibration.py run FOLDER... --weights WEIGHTS --out dev/bench/runs/<date>/calibration.jsonl
    .venv-peers/bin/python dev/bench/calibration.py table dev/bench/runs/<date>/calibration.jsonl

For every FOLDER (with train and test, thrown together) and seed: classes drawn by seed, `--per-class` training
pictures of each, up to `--test-per-class` of the others for testing. Variants:

common   the default: every class has a copy of the last layer, the head of random signs
lqf-fc   the head alone
random   weights shared by the classes, a random head
ridge    weights shared, a head that was fitted to all training labels: leave-one-out keeps that head
random-10, ridge-10   the same two with the backbone's kernel ten times the head's (the default with ridge is 0.1)

Lambda and s are chosen by the program, by leave-one-out where it is honest. The leave-one-out error is the share of
training pictures that the model fitted without them takes for another class: `rank --by mislabel`, margins above 0;
where the fit reports it too, both must agree. "One of each" is the fit's error with one picture of every other class
left out as well. z is (leave-one-out - test) / sqrt(sum of both binomial variances):
below -2 leave-one-out is too good. The draws of a set share pictures, so that their z are not independent.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from photos import Cli, append, arguments

VARIANTS = {
    "common": (),
    "lqf-fc": ("--method", "lqf-fc"),
    "random": ("--head-init", "random", "--linearize-from", "head.conv"),
    "ridge": ("--head-init", "ridge", "--linearize-from", "head.conv"),
    "random-10": ("--head-init", "random", "--linearize-from", "head.conv", "--backbone-share", "10"),
    "ridge-10": ("--head-init", "ridge", "--linearize-from", "head.conv", "--backbone-share", "10"),
}


def draw(source, options, seed, folder):
    """Links a training and a test set of its own into `folder`."""
    rng = np.random.default_rng(seed)
    names = sorted(p.name for p in (source / "train").iterdir())
    for name in sorted(rng.choice(names, min(options.classes, len(names)), replace=False)):
        pool = sorted(p for part in ("train", "test") for p in (source / part / name).iterdir())
        order = [pool[i] for i in rng.permutation(len(pool))]
        parts = {"train": order[: options.per_class], "test": order[options.per_class :][: options.test_per_class]}
        for part, chosen in parts.items():
            (folder / part / name).mkdir(parents=True)
            for p in chosen:  # the two parts of `source` number their pictures alike
                (folder / part / name / f"{p.parts[-3]}-{p.name}").symlink_to(p.resolve())


def measure(cli, folder, words):
    """Errors of one fit."""
    data, model = folder / "data", folder / "model.safetensors"
    fitted = cli.fit(data, *words, "-o", model)
    ranked = cli("rank", model, data, "--by", "mislabel")
    wrong = float(np.mean([entry["margin"] > 0 for entry in ranked]))
    told = fitted["leave_one_out_error"]
    if told is not None and abs(told - wrong) > 1e-9:
        print(f"the fit tells a leave-one-out error of {told}, rank one of {wrong}", file=sys.stderr)
    keys = ("train_samples", "test_samples", "classes", "test_error", "train_error", "lambda_total", "lambda_source", "cpu_seconds")
    line = {key: fitted[key] for key in keys} | {"leave_one_out_error": wrong, "told_by_fit": told}
    variance = sum(line[e] * (1 - line[e]) / line[n] for e, n in (("leave_one_out_error", "train_samples"), ("test_error", "test_samples")))
    line |= {"standard_error": variance**0.5, "z": (wrong - line["test_error"]) / variance**0.5}
    of_each = fitted["leave_one_of_each_out_error"]
    return line | {"of_each": of_each, "z_of_each": None if of_each is None else (of_each - line["test_error"]) / variance**0.5}


def run(options):
    """All sets, seeds and variants."""
    cli = Cli(options)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for source in map(Path, options.folders):
            with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
                draw(source, options, seed, Path(folder) / "data")
                for variant in options.variants:
                    line = {"set": source.name, "seed": seed, "variant": variant} | measure(cli, Path(folder), VARIANTS[variant])
                    append(options.out, line)


def table(path):
    """Markdown: means over the seeds, and a difference whose standard error is taken from their spread."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    print("| Set | Variant | Draws | N | Tested | Leave-one-out % | Test % | Difference, points | z of each draw | within 2 | One of each % | Difference | within 2 |")
    print("|" + "---|" * 13)
    place = lambda line: (f"{line['set']} {line['classes']}", line["variant"])
    for where in sorted({place(line) for line in lines}):
        here = [line for line in lines if place(line) == where]
        loo, test = (100 * np.array([line[k] for line in here]) for k in ("leave_one_out_error", "test_error"))
        spread = (loo - test).std(ddof=1) / len(here) ** 0.5 if len(here) > 1 else float("nan")
        z = [line["z"] for line in here]
        mean = lambda k: round(np.mean([line[k] for line in here]))
        cells = [*where, len(here), mean("train_samples"), mean("test_samples"), f"{loo.mean():.1f}", f"{test.mean():.1f}"]
        cells += [f"{(loo - test).mean():+.1f} ({spread:.1f})", " ".join(f"{v:+.1f}" for v in z), f"{sum(abs(v) <= 2 for v in z)}/{len(z)}"]
        if all(line.get("of_each") is not None for line in here):
            of_each, z = (np.array([line[k] for line in here]) for k in ("of_each", "z_of_each"))
            off = 100 * of_each - test
            spread = off.std(ddof=1) / len(here) ** 0.5 if len(here) > 1 else float("nan")
            cells += [f"{100 * of_each.mean():.1f}", f"{off.mean():+.1f} ({spread:.1f})", f"{sum(abs(z) <= 2)}/{len(z)}"]
        else:
            cells += ["", "", ""]
        print("| " + " | ".join(map(str, cells)) + " |")


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("folders", nargs="+", help="images with train and test; of `table`: the JSON lines")
    arguments(parser)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--test-per-class", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "table":
        table(options.folders[0])
    else:
        run(options)


if __name__ == "__main__":
    main()
