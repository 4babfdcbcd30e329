"""Test error on tables with four folds each, ours and scikit-learn's classifiers, all choosing by inner validation.

    .venv-convex/bin/python dev/bench/convex_accuracy.py run --data ../shared/data/uci \\
        --out dev/bench/runs/<date>/convex-accuracy.jsonl
    .venv-convex/bin/python dev/bench/convex_accuracy.py table dev/bench/runs/<date>/convex-accuracy.jsonl

A table is a folder with data.csv (column `class`) and folds.txt (two lines a fold: training rows, test rows). Ours
is one command, `convextune nn path`, for all tables; it chooses lambda (10 values) and the penalty with its number of
gates by 4 stratified folds of the training rows. The others have their defaults, standardised features, and a small grid
(GRIDS) that `GridSearchCV` searches with 4 stratified folds of the same rows; MLPClassifier stops at its default
of 200 iterations. `run` appends, and leaves out what the file has.

`table` prints for every method the mean test error, its mean rank (ties share theirs; 1 is best), how often it is
(with others) the best, and the mean difference to ours over tables with its standard error and the number of tables
where ours is better, equal, worse. Seconds are of everything, the choice included, on `--threads` threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OURS = {
    "gated": [],
    "gated, neuron-wise": ["--penalty", "neuron", "--try-gates", "20,100,500"],
    "relu": ["--activation", "relu", "--try-gates", "10,50"],
    "hinge": ["--loss", "squared-hinge", "--try-gates", "20,100"],
}


def classifiers(seed):
    """Name to (estimator, grid)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    scaled = lambda model: make_pipeline(StandardScaler(), model)
    return {
        "random forest": (
            scaled(RandomForestClassifier(random_state=seed)),
            {"randomforestclassifier__max_features": ["sqrt", 0.5]},
        ),
        "RBF SVM": (
            scaled(SVC(random_state=seed)),
            {"svc__C": [0.1, 1, 10, 100], "svc__gamma": ["scale", 0.01, 0.1]},
        ),
        "logistic regression": (
            scaled(LogisticRegression()),
            {"logisticregression__C": [0.01, 0.1, 1, 10, 100]},
        ),
        "MLP": (
            scaled(MLPClassifier(random_state=seed)),
            {"mlpclassifier__alpha": [1e-4, 1e-2, 1], "mlpclassifier__hidden_layer_sizes": [(100,), (30,)]},
        ),
    }


def read_table(folder):
    """X and labels."""
    with open(folder / "data.csv", encoding="utf-8") as file:
        names = file.readline().strip().split(",")
        cells = [line.strip().split(",") for line in file if line.strip()]
    place = names.index("class")
    X = np.array([[float(v) for j, v in enumerate(row) if j != place] for row in cells])
    return X, np.array([row[place] for row in cells])


def read_folds(path):
    """(training rows, test rows) of each fold."""
    lines = [[int(v) for v in line.replace(",", " ").split()] for line in open(path, encoding="utf-8") if line.strip()]
    return list(zip(lines[::2], lines[1::2]))


def run_ours(folder, fold, method, options):
    """One command."""
    command = [options.program, "nn", "path", folder / "data.csv", "--target", "class"]
    command += ["--task", "classification", "--folds", folder / "folds.txt", "--fold", fold, "--json", "--quiet"]
    command += ["--threads", options.threads, *OURS[method]]
    start = time.monotonic()
    try:
        run = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, timeout=options.limit or None, check=False
        )
    except subprocess.TimeoutExpired:
        return {"timeout": options.limit}
    if run.returncode:
        return {"failed": run.stderr.strip()[-300:]}
    report = json.loads(run.stdout)
    return {
        "test_error": report["test_error"],
        "seconds": time.monotonic() - start,
        "chosen": {"lambda": report["lambda"], "gates": report["gates"], "neurons": report["neurons"]},
        "trials": report["trials"],
        "relative_duality_gap": report["relative_duality_gap"],
        "status": report["status"],
    }


def run_peer(X, labels, train, test, method, options):
    """Grid search, then the error."""
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    model, grid = classifiers(options.seed)[method]
    search = GridSearchCV(model, grid, cv=StratifiedKFold(4, shuffle=True, random_state=options.seed), n_jobs=options.threads)
    start = time.monotonic()
    search.fit(X[train], labels[train])
    error = float(np.mean(search.predict(X[test]) != labels[test]))
    return {"test_error": error, "seconds": time.monotonic() - start, "chosen": {k: str(v) for k, v in search.best_params_.items()}}


def run(options):
    """All tables, folds and methods; by table, the smallest first."""
    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.filterwarnings("ignore")
    known = set()
    if os.path.exists(options.out):
        with open(options.out, encoding="utf-8") as file:
            known = {(l["table"], l["fold"], l["method"]) for l in map(json.loads, file)}
    folders = [p for p in Path(options.data).iterdir() if (p / "data.csv").exists()]
    folders.sort(key=lambda p: (p / "data.csv").stat().st_size)
    with open(options.out, "a", encoding="utf-8") as out:
        for folder in folders:
            if options.tables and folder.name not in options.tables:
                continue
            X, labels = read_table(folder)
            for fold, (train, test) in enumerate(read_folds(folder / "folds.txt")):
                for method in options.methods or [*OURS, *classifiers(0)]:
                    if (folder.name, fold, method) in known or len(X) > options.most.get(method, len(X)):
                        continue
                    print(f"{time.strftime('%H:%M:%S')} {folder.name} {fold} {method}", file=sys.stderr, flush=True)
                    if method in OURS:
                        line = run_ours(folder, fold, method, options)
                    else:
                        line = run_peer(X, labels, train, test, method, options)
                    where = {"table": folder.name, "rows": len(X), "features": X.shape[1], "fold": fold, "method": method}
                    print(json.dumps(where | line), file=out, flush=True)


def ranks(errors):
    """Ranks from 1; equals share the mean of theirs."""
    return {
        a: 1 + sum(y < x - 1e-12 for y in errors.values()) + 0.5 * (sum(abs(y - x) <= 1e-12 for y in errors.values()) - 1)
        for a, x in errors.items()
    }


def table(path, options):
    """Markdown, over the tables that every method has done."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in map(json.loads, file):
            found.setdefault(line["table"], {}).setdefault(line["method"], []).append(line)
    methods = options.methods or list(dict.fromkeys(m for here in found.values() for m in here))
    folds = {name: max(len(lines) for lines in here.values()) for name, here in found.items()}
    complete = lambda name, m: len(r := found[name].get(m, [])) == folds[name] and all("test_error" in l for l in r)
    names = [name for name in found if all(complete(name, m) for m in methods)]
    error = {n: {m: statistics.mean(l["test_error"] for l in found[n][m]) for m in methods} for n in names}
    rank = {n: ranks(error[n]) for n in names}
    left = sorted(set(found) - set(names))
    print(f"{len(names)} tables" + (f"; not done by all: {', '.join(left)}" if left else "") + "\n")
    print("| method | mean error | mean rank | best | minus ours (s.e.) | ours better, equal, worse | seconds a table |")
    print("|---|---|---|---|---|---|---|")
    base = methods[0]
    for m in sorted(methods, key=lambda m: statistics.mean(rank[n][m] for n in names)):
        differences = [error[n][m] - error[n][base] for n in names]
        spread = statistics.stdev(differences) / len(names) ** 0.5 if len(names) > 1 else 0.0
        signs = [sum(d > 1e-12 for d in differences), sum(abs(d) <= 1e-12 for d in differences), sum(d < -1e-12 for d in differences)]
        best = sum(error[n][m] <= min(error[n].values()) + 1e-12 for n in names)
        seconds = statistics.mean(sum(l["seconds"] for l in found[n][m]) for n in names)
        print(
            f"| {m} | {100 * statistics.mean(error[n][m] for n in names):.2f} % | {statistics.mean(rank[n][m] for n in names):.2f} "
            f"| {best} | {100 * statistics.mean(differences):+.2f} ({100 * spread:.2f}) | {', '.join(map(str, signs))} | {seconds:.1f} |"
        )
    if options.all:
        print("\n| table | rows | " + " | ".join(methods) + " |\n|---|---|" + "---|" * len(methods))
        for n in sorted(names):
            cells = " | ".join(f"{100 * error[n][m]:.1f}" for m in methods)
            print(f"| {n} | {found[n][base][0]['rows']} | {cells} |")


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", nargs="?", help="of `table`")
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data" / "uci"))
    parser.add_argument("--out", help="JSON lines are appended here")
    parser.add_argument("--tables", nargs="*", help="only these")
    parser.add_argument("--methods", nargs="*", help="only these; `table` compares with the first")
    parser.add_argument("--most", nargs="*", default=[], metavar="METHOD=ROWS", help="leave a method's larger tables out")
    parser.add_argument("--limit", type=float, default=0.0, help="seconds that one of our runs may take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--program", default=str(ROOT / "target" / "release" / "convextune"))
    parser.add_argument("--all", action="store_true", help="`table`: also a row a table")
    options = parser.parse_args()
    options.most = {name: int(rows) for name, rows in (item.split("=") for item in options.most)}
    if options.what == "run":
        run(options)
    else:
        table(options.file, options)


if __name__ == "__main__":
    main()
