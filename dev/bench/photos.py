"""Image sets of links, and calls of the command line that are timed. Used by updates.py, calibration.py, decay.py."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def arguments(parser):
    """Options that the three scripts share."""
    parser.add_argument("--weights", help="weight file of the backbone")
    parser.add_argument("--out", help="JSON lines are appended here")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scratch", help="folder for links and models; else a temporary one")
    parser.add_argument("--convextune", default=str(ROOT / "target" / "release" / "convextune"))


class Cli:
    """The command line with the options of a script."""

    def __init__(self, options):
        self.options = options

    def __call__(self, *words):
        """Runs a command with `--json`: what it printed, with `cpu_seconds` and `wall_seconds` if an object."""
        command = [self.options.convextune, *map(str, words), "--json", "--quiet", "--threads", str(self.options.threads)]
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        if run.returncode:
            sys.exit(f"{' '.join(command)}\n{run.stderr}")
        result = json.loads(run.stdout)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        print(f"{time.strftime('%H:%M:%S')} {words[0]}: {cpu:.1f} s", file=sys.stderr, flush=True)
        return result | {"cpu_seconds": cpu, "wall_seconds": end - begin} if isinstance(result, dict) else result

    def fit(self, folder, *words):
        """The report of a fit."""
        common = ("--weights", self.options.weights, "--image-size", self.options.image_size)
        return self("fit", folder, *common, *words)

    def scores(self, model, folder, classes):
        """Outputs for the pictures of class folders below `folder`, by path, [pictures, classes], and their labels."""
        found = self("predict", model, *sorted(p for p in Path(folder).iterdir()), "--top", len(classes))
        found.sort(key=lambda line: line["path"])
        place = {name: i for i, name in enumerate(classes)}
        values = np.full((len(found), len(classes)), np.nan)
        for row, line in enumerate(found):
            for entry in line["top"]:
                values[row, place[entry["class"]]] = entry["score"]
        return values, np.array([place[Path(line["path"]).parent.name] for line in found])


def pictures(folder):
    """`class/file` of every picture below a folder of class folders, sorted."""
    return sorted(f"{p.parent.name}/{p.name}" for p in Path(folder).glob("*/*"))


def link(names, source, target):
    """Links pictures, named `class/file`, of one folder into another."""
    for name in names:
        path = Path(target) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to((Path(source) / name).resolve())


def report(line, *more):
    """What a fit or a change cost and proved."""
    keys = ("train_samples", "lambda_total", "backbone_scale", "relative_gradient_norm", "passes", "jvps", "vjps")
    keys += ("preconditioner_cost", "prior_cost", "seconds", "cpu_seconds", "wall_seconds", "test_error", *more)
    return {key: line[key] for key in keys} | {"solver": line["plan"]["solver"], "status": line["status"]}


def append(out, line):
    """A JSON line."""
    with open(out, "a", encoding="utf-8") as file:
        print(json.dumps(line), file=file)
