"""The same training problem by descent on a two-layer network's weights, in PyTorch: SGD or Adam.

    python convex_sgd.py FOLDER --lambda 1e-3 --activation gated --method adam --target 0.123 --limit 20

FOLDER holds X.npy, Y.npy and G.npy (`convex_problem.py`). Minimises, for each output its own neurons,

    1/(2n) ||y - sum_i a_i (X w_i) s_i||^2 + lambda/2 sum_i (||w_i||^2 + s_i^2)

with a_i(X w) = D_i X w (gated, a neuron a gate) or (X w)_+ (ReLU, two neurons a gate, as many as the convex program
may use). By rescaling neurons its minimum is that of the convex program over the same gates (gated), or over all
gates (ReLU). Recorded is the objective after that rescaling, F = 1/(2n) ||..||^2 + lambda sum ||w_i|| |s_i|, which
is never more.

Settings are those of Mishkin, Sahiner and Pilanci (ICML 2022; their repository's figure_4): batches of 10 %
of the rows, at most 2,000 epochs, the step halved every 100, step sizes 10, 5, 1, 0.5, 0.1, 0.01, 0.001, PyTorch's
uniform start. Every step size is run from the first start; the best `--keep` of them from the others too.
A run ends when F <= `--target`, when it diverges, after `--limit` seconds, or when it takes longer than an
earlier run took to the target, since only the fastest counts. Evaluations are not counted in the seconds.

Prints a JSON line a run: step size, start, seconds, the least F, the time at which the target was reached
(or null) and the trajectory of (seconds, F); then one line with the best of all.
"""

import argparse
import json
import os
import time
from pathlib import Path

RATES = "10,5,1,0.5,0.1,0.01,0.001"


def arguments():
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--lambda", dest="lam", type=float, required=True)
    parser.add_argument("--activation", choices=("gated", "relu"), default="gated")
    parser.add_argument("--method", choices=("sgd", "adam"), required=True)
    parser.add_argument("--momentum", type=float, default=0.0, help="of sgd")
    parser.add_argument("--rates", default=RATES, help="step sizes, comma-separated")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--keep", type=int, default=7, help="step sizes that are run from more than one start")
    parser.add_argument("--target", type=float, default=0.0, help="objective at which a run has arrived")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds a run")
    parser.add_argument("--total", type=float, default=float("inf"), help="seconds for all runs, by the wall clock")
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--batch", type=float, default=0.1, help="share of the rows")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Network:
    """Weights and the two values of the objective; everything in single precision."""

    def __init__(self, torch, folder, options, start):
        import numpy as np

        load = lambda name: torch.from_numpy(np.load(Path(folder) / f"{name}.npy"))
        X, Y, G = (load(name) for name in "XYG")
        self.torch, self.lam = torch, options.lam
        self.masks = (X @ G > 0).float() if options.activation == "gated" else None
        self.X, self.Y = X.float(), Y.reshape(len(X), -1).float()
        features, gates, outputs = X.shape[1], G.shape[1], self.Y.shape[1]
        neurons = gates if options.activation == "gated" else 2 * gates
        generator = torch.Generator().manual_seed(start)
        uniform = lambda *shape: 2 * torch.rand(*shape, generator=generator) - 1
        self.first = (uniform(outputs, neurons, features) / features**0.5).requires_grad_()
        self.second = (uniform(outputs, neurons) / neurons**0.5).requires_grad_()

    def squares(self, rows):
        """1/(2m) ||y - network||^2 over m rows, all outputs."""
        outputs, neurons, _ = self.first.shape
        products = (self.X[rows] @ self.first.flatten(0, 1).T).view(-1, outputs, neurons)
        active = products.relu() if self.masks is None else products * self.masks[rows, None]
        found = (active * self.second).sum(dim=2)
        return ((self.Y[rows] - found) ** 2).sum() / (2 * len(found))

    def decayed(self, rows):
        """What is descended on."""
        return self.squares(rows) + self.lam / 2 * ((self.first**2).sum() + (self.second**2).sum())

    def objective(self):
        """Of all rows, neurons rescaled."""
        with self.torch.no_grad():
            lengths = self.first.norm(dim=2) * self.second.abs()
            return float(self.squares(slice(None)) + self.lam * lengths.sum())


def descend(torch, options, rate, start, limit):
    """One run, as a line."""
    network = Network(torch, options.folder, options, start)
    generator = torch.Generator().manual_seed(1000 + start)
    weights = [network.first, network.second]
    optimizer = torch.optim.Adam(weights, rate) if options.method == "adam" else torch.optim.SGD(
        weights, rate, momentum=options.momentum
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 100, 0.5)
    rows = len(network.X)
    batch = max(1, round(options.batch * rows))
    first = best = network.objective()
    seconds, looked, trajectory, reached = 0.0, 0.0, [(0.0, first)], None
    for epoch in range(options.epochs):
        begun = time.perf_counter()
        for chosen in torch.randperm(rows, generator=generator).split(batch):
            optimizer.zero_grad()
            network.decayed(chosen).backward()
            optimizer.step()
        schedule.step()
        seconds += time.perf_counter() - begun
        # Looked at after every twentieth part more of time, and at the end.
        if seconds < 1.05 * looked and seconds < limit and epoch + 1 < options.epochs:
            continue
        looked, value = seconds, network.objective()
        if not value < 1e3 * first:
            break
        if value < best:
            best = value
            trajectory.append((round(seconds, 5), value))
        if value <= options.target:
            reached = seconds
        if reached is not None or seconds >= limit:
            break
    return {
        "event": "run", "method": options.method, "rate": rate, "start": start, "epochs": epoch + 1, "seconds": seconds,
        "objective": best, "reached": reached, "trajectory": trajectory,
    }  # fmt: skip


def main():
    """See the module."""
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    begun, runs = time.perf_counter(), []
    rates = [float(r) for r in options.rates.split(",")]
    for start in range(options.starts):
        for rate in rates:
            if time.perf_counter() - begun > options.total:
                continue
            fastest = min((r["reached"] for r in runs if r["reached"] is not None), default=options.limit)
            runs.append(descend(torch, options, rate, start, min(options.limit, fastest)))
            print(json.dumps(runs[-1]), flush=True)
        if start == 0:
            order = sorted(runs, key=lambda r: (r["reached"] or float("inf"), r["objective"]))
            rates = [r["rate"] for r in order[: options.keep]]
    reached = [r["reached"] for r in runs if r["reached"] is not None]
    best = min(runs, key=lambda r: r["objective"])
    print(json.dumps({
        "event": "best", "method": options.method, "runs": len(runs), "objective": best["objective"], "rate": best["rate"],
        "reached": min(reached, default=None), "wall_seconds": time.perf_counter() - begun,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
