"""Which stage's kernel helps, where no class disturbs another? Ridge regression with

    K(share) = K_head + share K_stage ,     K_stage = G G' of one direction in the space of features

(both with mean diagonal 1, a free bias, Lambda by exact leave-one-out) on what
`convextune-bench gradients` wrote:

    python dev/bench/kernels.py directions DIRECTIONS.f32 1280
    convextune-bench gradients FOLDER --weights W --image-size 128 --directions DIRECTIONS.f32 \\
        --buckets 65536 --from stem,blocks.4,blocks.6,head -o OUT
    python dev/bench/kernels.py OUT [IMAGES_PER_CLASS]

Needs numpy.
"""

import sys
from pathlib import Path

import numpy as np

SHARES = (0, 0.1, 0.3, 1, 3, 10, 30)


def directions(path, features):
    """One direction of random signs."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (1, features)) / features**0.5
    signs.astype(np.float32).tofile(path)


class Data:
    """Features, labels and who is trained on."""

    def __init__(self, folder, per_class):
        labels = np.fromfile(folder / "labels", np.int64)
        self.rows = len(labels)
        train = labels >= 0
        labels = np.where(train, labels, -1 - labels)
        keep = ~train
        for c in range(labels.max() + 1):
            keep[np.where(train & (labels == c))[0][:per_class]] = True
        self.keep, self.train, self.labels = keep, train[keep], labels[keep]
        phi = np.fromfile(folder / "features", np.float32).reshape(self.rows, -1)
        self.phi = phi[keep].astype(float)

    def kernel(self, path):
        """The kernel of the first direction in a file of sketched gradients."""
        rows = np.fromfile(path, np.float32).reshape(self.rows, -1)[self.keep]
        return self.unit((rows @ rows.T).astype(float))

    def centred(self, kernel):
        train = self.train
        mean = kernel[:, train].mean(1, keepdims=True)
        return kernel - mean - mean.T + kernel[np.ix_(train, train)].mean()

    def unit(self, kernel):
        """With mean diagonal 1 over the training pictures."""
        return kernel / np.diag(self.centred(kernel))[self.train].mean()

    def ridge(self, kernel):
        """(leave-one-out residual, test error) at the Lambda with the least of the former."""
        train, labels = self.train, self.labels
        kernel = self.centred(kernel)
        onehot = np.eye(labels.max() + 1)[labels]
        mean = onehot[train].mean(0)
        values, vectors = np.linalg.eigh(kernel[np.ix_(train, train)])
        projected = vectors.T @ (onehot[train] - mean)
        best = (np.inf,)
        for decay in values.mean() * 10 ** np.linspace(-4, 1, 16):
            shrink = values / (values + decay)
            leverage = (vectors**2 * shrink).sum(1) + 1 / train.sum()
            fitted = vectors @ (shrink[:, None] * projected)
            left_out = (onehot[train] - mean - fitted) / (1 - leverage)[:, None]
            error = (left_out**2).sum() / train.sum()
            if error < best[0]:
                dual = vectors @ (projected / (values + decay)[:, None])
                outputs = kernel[np.ix_(~train, train)] @ dual + mean
                wrong = (outputs.argmax(1) != labels[~train]).mean()
                best = (error, wrong, decay / values.mean())
        return best


def main():
    if sys.argv[1] == "directions":
        directions(sys.argv[2], int(sys.argv[3]))
        return
    folder = Path(sys.argv[1])
    data = Data(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 10**9)
    head = data.unit(data.phi @ data.phi.T)
    print("| stage on | share | leave-one-out residual | test error % | Lambda |")
    print("|---|---|---|---|---|")
    for path in sorted(folder.glob("from-*")):
        stage = data.kernel(path)
        for share in SHARES:
            residual, wrong, decay = data.ridge(head + share * stage)
            name = path.name.removeprefix("from-")
            print(f"| {name} | {share} | {residual:.4f} | {100 * wrong:.1f} | {decay:.2g} |")


main()
