"""`forget` and `add` beside fits from the beginning: differences, passes, and a membership-inference attack.

    .venv-peers/bin/python dev/bench/updates.py run FOLDER --weights WEIGHTS --out dev/bench/runs/<date>/updates.jsonl
    .venv-peers/bin/python dev/bench/updates.py table dev/bench/runs/<date>/updates.jsonl

A model is fitted to a part of FOLDER (with train and test): `--classes` classes drawn by seed, the first `--per-class`
training pictures of each. Then, for every share, drawn by seed:

forget   the share is taken out of the model; against a fit without it, with the same Lambda and s
add      the share is added to that fit; against a fit of everything with the same Lambda and s
class    a new class is added to a fit without it
row      `--operations` changes in a row, forgetting and adding by turns; the last model against one fit
pcg      that fit by conjugate gradients, for the passes of a fit whose kernel is not formed

A line has the relative differences (norm of the difference over that of the fit from the beginning) of the trained
update u, of the weights w0 + u, of b and of the outputs on all test pictures, and what both cost; `unchanged` is the
difference of the model before the change. CPU seconds are of
the whole command, starting and decoding included; passes are over the training pictures.

The attack calls a picture a training picture if its squared error is small (or its margin large). Its AUC is that of
the forgotten pictures against the test pictures, before and after forgetting and for the fit that never saw them,
with the standard error of Hanley and McNeil (1982); 0.5 means that they cannot be told apart.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from photos import Cli, append, arguments, link, pictures, report
from safetensors.numpy import load_file


def difference(model, reference):
    """Of two model files."""
    ours, theirs = load_file(model), load_file(reference)
    squares = {"u": [0.0, 0.0], "w": [0.0, 0.0], "b": [0.0, 0.0]}
    for name, right in theirs.items():
        if name.startswith("kernel/"):
            continue  # has other rows; compared by what is done with it next
        delta = ours[name].astype(np.float64) - right
        if name.startswith("u/"):
            start = theirs["w0" + name[1:]].astype(np.float64)
            whole = start.reshape(start.shape + (1,) * (right.ndim - start.ndim)) + right
            parts = {"u": right.astype(np.float64), "w": whole}
        elif name == "bias":
            parts = {"b": right.astype(np.float64)}
        elif delta.any():
            sys.exit(f"{name} differs")
        else:
            continue
        for key, part in parts.items():
            squares[key][0] += np.sum(delta**2)
            squares[key][1] += np.sum(part**2)
    return {key: float(np.sqrt(top / bottom)) for key, (top, bottom) in squares.items()}


def auc(members, others):
    """Chance that a member's score is the larger one, and its standard error (Hanley and McNeil)."""
    a = float(np.mean((members[:, None] > others) + 0.5 * (members[:, None] == others)))
    m, n = len(members), len(others)
    spread = (m - 1) * (a / (2 - a) - a**2) + (n - 1) * (2 * a**2 / (1 + a) - a**2)
    return a, float(np.sqrt((a * (1 - a) + spread) / (m * n)))


def attack(members, others):
    """By the squared error and by the margin; each `(outputs, labels)`."""

    def both(scores, labels):
        rows = np.arange(len(labels))
        right = scores[rows, labels]
        rest = scores.copy()
        rest[rows, labels] = -np.inf
        loss = np.sum((scores - (labels[:, None] == np.arange(scores.shape[1]))) ** 2, axis=1)
        return -loss, right - rest.max(axis=1)

    return {name: auc(*pair) for name, pair in zip(("loss", "margin"), zip(both(*members), both(*others)))}


class Study:
    """A set, its model, and what is compared with what."""

    def __init__(self, options, folder):
        self.options, self.work, self.cli = options, folder, Cli(options)
        self.rng = np.random.default_rng(options.seed)
        self.source = Path(options.folder)
        names = sorted(p.name for p in (self.source / "train").iterdir())
        count = min(options.classes or len(names), len(names))
        self.classes = sorted(self.rng.choice(names, count, replace=False).tolist())
        groups = [[p for p in pictures(self.source / "train") if p.split("/")[0] == c] for c in self.classes]
        self.all = [p for group in groups for p in group[: options.per_class]]
        self.test = [p for p in pictures(self.source / "test") if p.split("/")[0] in self.classes]
        link(self.test, self.source / "test", folder / "test")
        self.base = {"set": self.source.name, "classes": count, "images": len(self.all), "fit": options.fit, "seed": options.seed}

    def fit(self, label, names, *words):
        """A fit of the named pictures: model, data folder, report."""
        data, model = self.work / label, self.work / f"{label}.safetensors"
        if not data.exists():
            classes = {p.split("/")[0] for p in names}
            link(names, self.source / "train", data / "train")
            link([p for p in self.test if p.split("/")[0] in classes], self.source / "test", data / "test")
        return model, data, self.cli.fit(data, *self.options.fit.split(), *words, "-o", model)

    def again(self, label, names, *words):
        """The same with Lambda and s of the first fit."""
        return self.fit(label, names, *self.prior, *words)

    def draw(self, names, count):
        """Some pictures; every class keeps one."""
        kept, some = {}, []
        for p in names:
            kept[p.split("/")[0]] = kept.get(p.split("/")[0], 0) + 1
        for p in self.rng.permutation(names).tolist():
            if len(some) < count and kept[p.split("/")[0]] > 1:
                kept[p.split("/")[0]] -= 1
                some.append(p)
        return some

    def forget(self, label, model, data, names):
        """Model and report."""
        listing, target = self.work / f"{label}.txt", self.work / f"{label}.safetensors"
        listing.write_text("".join(f"train/{p}\n" for p in names), encoding="utf-8")
        return target, self.cli("forget", model, data, "--samples", listing, "-o", target)

    def add(self, label, model, names):
        """Model and report."""
        more, target = self.work / f"more-{label}", self.work / f"{label}.safetensors"
        link(names, self.source / "train", more / "train")
        return target, self.cli("add", model, more / "train", "-o", target)

    def line(self, what, model, ours, reference, theirs, before=None, **more):
        """Compares and writes; `before` is the model that was changed."""
        scores = [self.cli.scores(m, self.work / "test", self.classes)[0] for m in (model, reference)]
        delta = difference(model, reference)
        if before:
            more["unchanged"] = difference(before, reference)
        delta["outputs"] = float(np.linalg.norm(scores[0] - scores[1]) / np.linalg.norm(scores[1]))
        line = self.base | {"what": what, "difference": delta, "ours": report(ours), "fit_again": report(theirs)} | more
        print(json.dumps(line["difference"]), file=sys.stderr)
        append(self.options.out, line | {"certified": ours.get("certified")})

    def membership(self, gone, models):
        """The attack on every model."""
        link(gone, self.source / "train", self.work / f"gone-{len(gone)}")
        rate = lambda m: attack(*(self.cli.scores(m, self.work / f, self.classes) for f in (f"gone-{len(gone)}", "test")))
        return {"attack": {name: rate(model) for name, model in models.items()}}

    def run(self):
        """Everything asked for."""
        options = self.options
        first, data, found = self.fit("all", self.all)
        self.prior = ("--lambda-total", found["lambda_total"], "--backbone-scale", found["backbone_scale"])
        if {"add", "class"} & set(options.what_of):
            whole, _, theirs = self.again("whole", self.all)
        for share in options.shares:
            count = max(1, round(share * len(self.all)))
            gone = self.draw(self.all, count)
            rest = [p for p in self.all if p not in gone]
            less, ours = self.forget(f"less-{count}", first, data, gone)
            part, _, fitted = self.again(f"part-{count}", rest)
            attacks = self.membership(gone, {"before": first, "after": less, "never seen": part})
            self.line("forget", less, ours, part, fitted, first, share=share, changed=count, **attacks)
            if "pcg" in options.what_of and share == options.shares[-1]:
                iterated, _, fitted = self.again(f"pcg-{count}", rest, "--solver", "pcg", "--solver-tolerance", 1e-5)
                self.line("forget, fit by pcg", less, ours, iterated, fitted, share=share, changed=count)
            if "add" in options.what_of:
                more, ours = self.add(f"more-{count}", part, gone)
                self.line("add", more, ours, whole, theirs, part, share=share, changed=count)
        if "class" in options.what_of:
            new = [p for p in self.all if p.split("/")[0] == self.classes[-1]]
            part, _, _ = self.again("class", [p for p in self.all if p not in new])
            more, ours = self.add("class-more", part, new)
            self.line("add a class", more, ours, whole, theirs, share=len(new) / len(self.all), changed=len(new))
        if options.operations:
            self.row()

    def row(self):
        """Changes in a row, from a model without a tenth of the pictures, which are there to be added."""
        count = max(1, round(0.01 * len(self.all)))
        outside = self.draw(self.all, len(self.all) // 10 + 1)
        inside = [p for p in self.all if p not in outside]
        model, data, _ = self.again("row", inside)
        cost = {key: 0.0 for key in ("passes", "jvps", "vjps", "cpu_seconds")}
        for step in range(self.options.operations):
            previous = model
            if step % 2 == 0:
                moved = self.draw(inside, count)
                model, ours = self.forget(f"row-{step}", model, data, moved)
                inside, outside = [p for p in inside if p not in moved], outside + moved
            else:
                moved = self.rng.choice(outside, count, replace=False).tolist()
                model, ours = self.add(f"row-{step}", model, moved)
                inside, outside = inside + moved, [p for p in outside if p not in moved]
            previous.unlink()
            cost = {key: cost[key] + ours[key] for key in cost}
        reference, _, theirs = self.again("row-end", inside)
        self.line("row", model, ours, reference, theirs, operations=self.options.operations, changed=count, all_operations=cost)


def table(path):
    """Markdown: every line, and the attacks by the margin too, pooled over the seeds."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    place = lambda line: f"{line['set']} {line['classes']} {line['fit']}".strip()
    work = lambda r: f"{r['passes']:.0f}, {r['jvps']}, {r['vjps']}"
    print("| Set | Images | What | Moved | u before | u | w | b | outputs | Passes, JVPs, VJPs | of a fit | CPU s | of a fit |")
    print("|" + "---|" * 13)
    for line in lines:
        d, ours, fit = line["difference"], line["ours"], line["fit_again"]
        cells = [place(line), line["images"], line["what"], line["changed"]]
        cells.append(f"{line['unchanged']['u']:.1e}" if "unchanged" in line else "")
        cells += [f"{d[k]:.1e}" for k in ("u", "w", "b", "outputs")] + [work(ours), work(fit)]
        cells += [f"{r['cpu_seconds']:.1f}" for r in (ours, fit)]
        print("| " + " | ".join(map(str, cells)) + " |")
    attacked = [line for line in lines if "attack" in line]
    print("\n| Set | Forgotten | Draws | AUC by | before | after | never seen |\n|" + "---|" * 7)
    for where in dict.fromkeys((place(line), line["changed"]) for line in attacked):
        here = [line["attack"] for line in attacked if (place(line), line["changed"]) == where]
        for by in ("loss", "margin"):
            cells = [*where, len(here), by]
            for model in ("before", "after", "never seen"):
                rates, errors = np.array([attack[model][by] for attack in here]).T
                cells.append(f"{rates.mean():.3f} ({np.sqrt(np.sum(errors**2)) / len(here):.3f})")
            print("| " + " | ".join(map(str, cells)) + " |")


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("folder", help="images with train and test; of `table`: the JSON lines")
    arguments(parser)
    parser.add_argument("--classes", type=int, help="how many classes, drawn by seed")
    parser.add_argument("--per-class", type=int, help="training pictures of each")
    parser.add_argument("--fit", default="", help="further options of every fit, such as '--head-init random'")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.01, 0.1, 0.2])
    parser.add_argument("--what-of", nargs="*", default=["add", "class", "pcg"], choices=("add", "class", "pcg"), help="beside forget")
    parser.add_argument("--operations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "table":
        table(options.folder)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        Study(options, Path(folder)).run()


if __name__ == "__main__":
    main()
