"""Influence by kronfluence (EKFAC) and TRAK against truly leaving pictures out of an ordinary fine-tuning.

    python influence_peers.py net FOLDER --weights FOLDER --size 64 --samples 10 --seeds 2
    python influence_peers.py oracle FOLDER --weights FOLDER --size 64

Both ask how the margin log(p / (1 - p)) of the right class of each test picture changes when one training picture is
absent, and print JSON lines: Pearson's correlation with the true changes over all pairs of a left-out
and a test picture (`correlation`) and its mean over the left-out pictures (`correlation_by_sample`); seconds, of the
processor, for all queries together and for each.

`net`: the fine-tuned network of `finetuned.py`. It is trained from every seed with all pictures, and without
each of `--samples` pictures (or random groups of `--group`): the same batches, absent pictures' losses weighted by zero. The truth is the mean change
over the seeds; `truth` lines say how much of it is noise: the correlation of one seed's changes with another's. Scores
are those of the networks trained with all pictures, of one seed and averaged over all.

`oracle`: multinomial logistic regression on 16 principal components of the pre-trained features, with weight
decay, trained to convergence, every training picture left out by truly refitting; captum's NaiveInfluenceFunction (the explicit Hessian)
beside the two. It shows that the peers are called rightly, where influence functions are known to hold.
"""

import argparse
import copy
import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from captum.influence._core.influence_function import NaiveInfluenceFunction
from torch import nn
from torch.nn.functional import cross_entropy
from trak import TRAKer
from trak.projectors import BasicSingleBlockProjector

from finetuned import NORMAL, Clock, Ekfac, batched, lite0, margins, pooled, train
from sgd_lqf import read_pictures


def correlation(a, b):
    """Pearson's, over all entries."""
    return float(np.corrcoef(np.asarray(a).ravel(), np.asarray(b).ravel())[0, 1])


def agreement(truth, scores):
    """Rows are left-out pictures, columns test pictures."""
    rows = [correlation(t, s) for t, s in zip(truth, scores)]
    return {"correlation": correlation(truth, scores), "correlation_by_sample": float(np.mean(rows))}


class Kept(BasicSingleBlockProjector):
    """TRAK frees the projection's matrix before the test pictures need it, and fails (0.3.2, one block, no CUDA)."""

    def free_memory(self):
        pass


def trak(nets, data, test, dimension, decay=0.0, batch=10):
    """Scores by training and test picture."""
    weights = sum(w.numel() for w in nets[0].parameters())
    projector = Kept(weights, dimension, 0, "rademacher", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            nets[0], "image_classification", len(data[0]), save_dir=folder, device="cpu", projector=projector,
            proj_dim=None, use_half_precision=False, lambda_reg=decay, logging_level=logging.ERROR,
        )  # fmt: skip
        batches = lambda pair: zip(pair[0].contiguous().split(batch), pair[1].split(batch), strict=True)
        for number, net in enumerate(nets):
            traker.load_checkpoint(net.state_dict(), model_id=number)
            for part in batches(data):
                traker.featurize(batch=part, num_samples=len(part[0]))
        traker.finalize_features()
        for number, net in enumerate(nets):
            traker.start_scoring_checkpoint("test", net.state_dict(), model_id=number, num_targets=len(test[0]))
            for part in batches(test):
                traker.score(batch=part, num_samples=len(part[0]))
        return np.array(traker.finalize_scores("test"))


def ekfac(net, data, test, damping):
    """The same of kronfluence."""
    return Ekfac(net, *data).pairs(*test, damping).T.numpy()


def report(line):
    """One JSON line."""
    print(json.dumps(line), flush=True)


def some(pictures, labels, per_class):
    """The first so many of every class."""
    rows = torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in labels.unique()])
    return pictures[rows], labels[rows]


def run_net(options, data, test, classes):
    """Fine-tuned networks."""
    random = torch.Generator().manual_seed(0)
    if options.group == 1:
        samples = torch.randperm(len(data[0]), generator=random)[: options.samples, None].tolist()
    else:
        samples = [torch.randperm(len(data[0]), generator=random)[: options.group].tolist() for _ in range(options.samples)]
    where = {"what": "net", "folder": options.folder.name, "train": len(data[0]), "queries": len(test[0]), "group": options.group, "samples": samples}
    clock = Clock()

    def trained(seed, absent=None):
        weights = torch.ones(len(data[0]))
        if absent is not None:
            weights[absent] = 0.0
        net = lite0(options.weights, classes, options.size)
        return train(net, *data, options.epochs, options.rate, seed, weights=weights)

    outputs = lambda net: margins(batched(net, test[0]), test[1]).numpy()
    wholes, changes = [], []
    for seed in range(options.seeds):
        whole = trained(seed)
        seconds = clock.lap()
        error = float((batched(whole, test[0]).argmax(1) != test[1]).float().mean())
        before = outputs(whole)
        wholes.append(whole)
        changes.append(np.array([before - outputs(trained(seed, group)) for group in samples]))
        report(where | {"score": "truth", "seed": seed, "train_seconds": seconds, "test_error": error, "seconds": clock.lap()})
    truth = np.mean(changes, axis=0)
    if options.seeds > 1:
        report(where | {"score": "truth, seed 0 with seed 1"} | agreement(changes[0], changes[1]))

    def answer(name, scores):
        seconds = clock.lap()
        line = where | {"score": name, "seconds": seconds, "seconds_per_query": seconds / len(test[0])}
        scores = np.array([scores[group].sum(axis=0) for group in samples])
        report(line | agreement(truth, scores) | {"correlation_with_seed_0": correlation(changes[0], scores)})
        clock.lap()

    clock.lap()
    answer("TRAK, seed 0", trak(wholes[:1], data, test, options.dimension))
    if options.seeds > 1:
        answer(f"TRAK, {options.seeds} seeds", trak(wholes, data, test, options.dimension))
    first = ekfac(copy.deepcopy(wholes[0]), data, test, None)
    answer("kronfluence, seed 0", first)
    rest = [ekfac(copy.deepcopy(net), data, test, None) for net in wholes[1:]]
    if rest:
        answer(f"kronfluence, {options.seeds} seeds (seconds: the others alone)", np.mean([first, *rest], axis=0))


def fit_head(features, labels, classes, decay, kept):
    """Minimises the mean over all of the cross entropies of `kept`, plus decay/2 of the squared norm."""
    head = nn.Linear(features.shape[1], classes).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=1000, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        data = cross_entropy(head(features[kept]), labels[kept], reduction="sum") / len(features)
        value = data + decay / 2 * sum(w.square().sum() for w in head.parameters())
        value.backward()
        return value

    optimizer.step(loss)
    return head


def run_oracle(options, data, test, classes):
    """Logistic regression."""
    net = lite0(options.weights, classes, options.size)
    X, T = pooled(net, data[0]).double(), pooled(net, test[0]).double()
    centre = X.mean(0)
    _, _, V = torch.linalg.svd(X - centre, full_matrices=False)
    spread = ((X - centre) @ V[0]).std()
    X, T = ((Z - centre) @ V[:16].T / spread for Z in (X, T))
    count, decay = len(X), options.decay
    fit = lambda kept: fit_head(X, data[1], classes, decay, kept)
    everyone = torch.arange(count)
    head = fit(everyone)
    with torch.no_grad():
        outputs = lambda h: margins(h(T), test[1]).numpy()
        before = outputs(head)
    changes = []
    for i in range(count):
        left = fit(everyone[everyone != i])
        with torch.no_grad():
            changes.append(before - outputs(left))
    truth, clock = np.array(changes), Clock()
    where = {"what": "oracle", "folder": options.folder.name, "train": count, "queries": len(T), "decay": decay}

    def answer(name, scores):
        seconds = clock.lap()
        report(where | {"score": name, "seconds": seconds} | agreement(truth, scores))
        clock.lap()

    weights = sum(w.numel() for w in head.parameters())
    with tempfile.TemporaryDirectory() as folder:
        torch.save(head.state_dict(), Path(folder) / "head.pt")
        naive = NaiveInfluenceFunction(
            head, torch.utils.data.TensorDataset(X, data[1]), str(Path(folder) / "head.pt"),
            loss_fn=nn.CrossEntropyLoss(reduction="none"), test_loss_fn=lambda z, y: -margins(z, y), batch_size=64,
            # The Hessian is of the losses' sum.
            projection_dim=weights, hessian_reg=decay * count, hessian_inverse_tol=0.0,
        )  # fmt: skip
        answer("captum NaiveInfluenceFunction", naive.influence((T, test[1])).T.detach().numpy())
    single = lambda pair: (pair[0].float(), pair[1])
    head = nn.Sequential(copy.deepcopy(head).float())
    answer("kronfluence", ekfac(copy.deepcopy(head), single((X, data[1])), single((T, test[1])), decay))
    answer("TRAK", trak([head], single((X, data[1])), single((T, test[1])), 100, decay * count))


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("net", "oracle"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the weight files")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--per-class", type=int, default=20, help="training pictures")
    parser.add_argument("--queries", type=int, default=6, help="test pictures a class")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--group", type=int, default=1, help="pictures left out together; scores are added")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--dimension", type=int, default=100, help="of TRAK's projection")
    parser.add_argument("--decay", type=float, default=0.01, help="of the oracle")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    *data, classes = read_pictures(options.folder / "train", options.size, *NORMAL)
    *test, _ = read_pictures(options.folder / "test", options.size, *NORMAL)
    data, test = some(*data, options.per_class), some(*test, options.queries)
    (run_net if options.what == "net" else run_oracle)(options, data, test, classes)


if __name__ == "__main__":
    main()
