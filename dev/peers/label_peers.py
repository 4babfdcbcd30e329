"""Suspected label errors of a folder by the programs a user would pick instead.

    python label_peers.py FOLDER --weights FOLDER --size 64

FOLDER holds `train` (and `test`, whose error is reported) with one folder a class. Prints one JSON line a score: its
name,
`fit_seconds` (what it needs beforehand: features and cross-validation, or fine-tuning), `seconds` (the
score itself;
both of the processor, so that a shared core does not count), and `scores`, by file name below `train`, larger for more suspect.

cleanlab: the probabilities are those of multinomial logistic regression on the pooled features of the pre-trained
network (standardised), 5-fold cross-validated; the regularisation is the one of `--C` with the least out-of-sample
loss at the labels as they are. kronfluence: self-influence (EKFAC) of the fine-tuned network of `finetuned.py`. Loss:
of the same network.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from cleanlab import Datalab
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finetuned import NORMAL, Clock, Ekfac, batched, cross_entropy, lite0, pooled, train
from sgd_lqf import SUFFIXES, read_pictures


def names(folder):
    """The files that `read_pictures` reads, in its order."""
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    return [f"{c.name}/{p.name}" for c in classes for p in sorted(c.iterdir()) if p.suffix.lower() in SUFFIXES]


def probabilities(features, labels, strengths, seed):
    """Out-of-sample probabilities at the best C, and what was seen: loss by C."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    found, losses = {}, {}
    for C in strengths:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=400))
        found[C] = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
        losses[C] = log_loss(labels, found[C])
    best = min(losses, key=losses.get)
    return best, found[best], losses


def cleanlab_scores(features, labels, options, report):
    """Datalab by probabilities and by features, and cleanlab's other scores of the same probabilities."""
    clock = Clock()
    best, P, losses = probabilities(features, labels, options.C, options.seed)
    setup = options.feature_seconds + clock.lap()
    extra = {"C": best, "out_of_sample_loss": losses}
    data = {"label": [f"{label:04d}" for label in labels]}
    lab = Datalab(data, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=P, issue_types={"label": {}})
    report("cleanlab Datalab", setup, clock.lap(), -lab.get_issues("label")["label_score"].to_numpy(), extra)
    lab = Datalab(data, label_name="label", verbosity=0)
    lab.find_issues(features=features, issue_types={"label": {}})
    scores = -lab.get_issues("label")["label_score"].to_numpy()
    report("cleanlab Datalab, features alone", options.feature_seconds, clock.lap(), scores)
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        scores = -get_label_quality_scores(labels, P, method=method)
        report(f"cleanlab {method}", setup, clock.lap(), scores, extra)


def finetuned_scores(net, pictures, labels, test, options, report):
    """Loss and kronfluence's self-influence of the fine-tuned network."""
    clock = Clock()
    train(net, pictures, labels, options.epochs, options.rate, options.seed)
    setup = clock.lap()
    losses = cross_entropy(batched(net, pictures), labels, reduction="none")
    seconds = clock.lap()
    extra = {"epochs": options.epochs, "rate": options.rate, "train_loss": float(losses.mean())}
    if test:
        extra["test_error"] = float((batched(net, test[0]).argmax(1) != test[1]).float().mean())
    report("loss of the fine-tuned network", setup, seconds, losses.numpy(), extra)
    clock.lap()
    if options.skip_kronfluence:
        return
    ekfac = Ekfac(net, pictures, labels)
    factors = clock.lap()
    for damping, name in ((None, "heuristic damping"), (1e-8, "damping 1e-8")):
        scores = ekfac.self_scores(damping)
        report(f"kronfluence self-influence, {name}", setup, factors + clock.lap(), scores.numpy(), extra)


def main():
    """All peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the weight files")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--C", type=float, nargs="*", default=[1e-3, 1e-2, 1e-1])
    parser.add_argument("--only", choices=("cleanlab", "finetuned"))
    parser.add_argument("--skip-kronfluence", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(options.seed)
    folder = options.folder / "train"
    files = names(folder)
    pictures, labels, classes = read_pictures(folder, options.size, *NORMAL)
    test = None
    if (options.folder / "test").is_dir():
        test = read_pictures(options.folder / "test", options.size, *NORMAL)
    net = lite0(options.weights, classes, options.size)

    def report(name, setup, seconds, scores, extra=None):
        by_file = {file: float(score) for file, score in zip(files, np.asarray(scores, dtype=float), strict=True)}
        line = {"score": name, "fit_seconds": setup, "seconds": seconds, "scores": by_file}
        print(json.dumps(line | (extra or {})), flush=True)

    if options.only != "finetuned":
        clock = Clock()
        features = pooled(net, pictures).numpy()
        options.feature_seconds = clock.lap()
        cleanlab_scores(features, labels.numpy(), options, report)
    if options.only != "cleanlab":
        finetuned_scores(net, pictures, labels, test, options, report)


if __name__ == "__main__":
    main()
