"""Flipped labels found by ours, cleanlab, kronfluence and the loss of a fine-tuned network.

    .venv-influence/bin/python dev/bench/label_errors.py run ../shared/data/images/flowers89 --out OUT.jsonl
    .venv-influence/bin/python dev/bench/label_errors.py table OUT.jsonl

`run` links the pictures of FOLDER/train into a new folder, a share of them (by the seed) into the folder of another
class, all others equally likely; `test` is linked as it is. Ours (`convextune fit`, then `rank --by mislabel`) and
`dev/peers/label_peers.py` read the same folder. A line a score: the area under the ROC curve, the share of
the flipped labels in the first 10 and 20 % of the order (with 20 % flipped, at best 50 and 100 %), and seconds of the
processor.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def flip(source, target, share, per_class, seed):
    """Links; returns the names of the flipped ones below `target`/train."""
    draw = random.Random(seed)
    classes = sorted(p.name for p in (source / "train").iterdir() if p.is_dir())
    files = [(c, f) for c in classes for f in sorted((source / "train" / c).iterdir())[:per_class]]
    wrong = set(draw.sample(range(len(files)), round(share * len(files))))
    flipped = set()
    for name in classes:
        (target / "train" / name).mkdir(parents=True)
    for i, (name, file) in enumerate(files):
        given = draw.choice([c for c in classes if c != name]) if i in wrong else name
        # The link's name keeps the pictures of one class apart and does not show which are flipped.
        link = f"{given}/{i:05d}{file.suffix}"
        (target / "train" / link).symlink_to(file.resolve())
        if i in wrong:
            flipped.add(link)
    (target / "test").symlink_to((source / "test").resolve())
    return flipped, len(files), len(classes)


def ours(folder, options):
    """The lines of ours: the fit as it is by default, and the ones of `--method`."""
    for extra in options.fit:
        with tempfile.TemporaryDirectory() as place:
            model = Path(place) / "model.safetensors"
            weights = options.weights / "efficientnet-lite0-57934424.pth"
            command = [options.ours, "fit", folder, "--weights", weights, "--image-size", options.size, "-o", model]
            command += ["--json", "--quiet", *extra.split()]
            start = children()
            fit = json.loads(call(command))
            fitted = children() - start
            start = children()
            ranked = json.loads(call([options.ours, "rank", model, folder, "--by", "mislabel", "--json", "--quiet"]))
            seconds = children() - start
        name = "convextune" + (f" {extra}" if extra else "")
        yield {"score": name, "fit_seconds": fitted, "seconds": seconds, "fit": fit, "ranked": ranked}


def children():
    """Seconds of the processor of the programs called so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def call(command):
    """Standard output."""
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, check=True).stdout


def peers(folder, options):
    """The lines of the peers."""
    command = [sys.executable, ROOT / "dev" / "peers" / "label_peers.py", folder, "--weights", options.weights]
    command += ["--size", options.size, "--seed", options.seed, *options.peer.split()]
    with subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        sys.exit(f"label_peers.py ended with {process.returncode}")


def figures(scores, flipped):
    """AUC (ties count half) and the shares found."""
    order = sorted(scores, key=lambda file: -scores[file])
    found = lambda share: len(flipped.intersection(order[: round(share * len(order))])) / len(flipped)
    right = [scores[file] for file in scores if file not in flipped]
    wins = sum((scores[f] > r) + 0.5 * (scores[f] == r) for f in flipped for r in right)
    return {"auc": wins / (len(right) * len(flipped)), "found_10": found(0.1), "found_20": found(0.2)}


def run(options):
    """Ours and the peers on one folder."""
    with tempfile.TemporaryDirectory() as place, open(options.out or os.devnull, "a", encoding="utf-8") as out:
        folder = Path(place) / "photos"
        flipped, count, classes = flip(options.folder, folder, options.share, options.per_class, options.seed)
        where = {
            "folder": options.folder.name, "size": options.size, "train": count, "classes": classes,
            "flipped": len(flipped), "seed": options.seed,
        }  # fmt: skip
        if options.dump:
            (options.dump / f"{options.folder.name}-{options.seed}.flipped.json").write_text(json.dumps(sorted(flipped)))
        for source in (ours, peers):
            if options.only in (None, source.__name__):
                for line in source(folder, options):
                    write(where, line, flipped, folder, out, options)


def write(where, line, flipped, folder, out, options):
    """The figures of one score."""
    scores, fit = line.pop("scores", None), line.pop("fit", None)
    ranked = line.pop("ranked", None)
    if ranked is not None:
        scores = {key(entry["sample"]): entry["score"] for entry in ranked}
        line |= {"test_error": fit.get("test_error")}
    assert len(scores) == where["train"], (len(scores), where)
    if options.dump:
        dump = {"score": line["score"], "scores": scores, "ranked": ranked}
        with open(options.dump / f"{where['folder']}-{where['seed']}.scores.jsonl", "a", encoding="utf-8") as file:
            print(json.dumps(dump), file=file)
    line = where | line | figures(scores, flipped)
    print(json.dumps(line), file=out, flush=True)
    print(json.dumps(line), file=sys.stderr)


def key(sample):
    """Class and file of a path, or of a name below `train`."""
    return "/".join(Path(sample).parts[-2:])


def table(path):
    """In markdown; the mean over seeds."""
    groups = {}
    for line in map(json.loads, Path(path).read_text(encoding="utf-8").splitlines()):
        groups.setdefault((line["folder"], line["train"], line["score"]), []).append(line)
    print("| Folder | images | score | AUC | in first 10 % | in first 20 % | fit, s | score, s |")
    print("|---|---|---|---|---|---|---|---|")
    for (folder, count, score), lines in groups.items():
        mean = lambda name: sum(line[name] for line in lines) / len(lines)
        shares = f"{mean('auc'):.3f} | {100 * mean('found_10'):.1f} % | {100 * mean('found_20'):.1f} %"
        print(f"| {folder} | {count} | {score} | {shares} | {mean('fit_seconds'):.0f} | {mean('seconds'):.1f} |")


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("folder", type=Path, help="of `table`: the JSON lines")
    parser.add_argument("--out", help="JSON lines are appended here")
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared" / "data" / "weights")
    parser.add_argument("--ours", default=str(ROOT / "target" / "release" / "convextune"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--per-class", type=int, help="the first so many pictures of a class")
    parser.add_argument("--fit", nargs="*", default=["", "--method=lqf-fc"], help="options of `convextune fit`, a fit each")
    parser.add_argument("--peer", default="", help="options of label_peers.py")
    parser.add_argument("--only", choices=("ours", "peers"))
    parser.add_argument("--dump", type=Path, help="folder for the scores themselves")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table(options.folder) if options.what == "table" else run(options)


if __name__ == "__main__":
    main()
