"""One convex program of a two-layer network: its files, its gates, and what is proved about a point of it.

With X (n x d), Y (n x C), gate vectors g_1..g_P, D_i = diag(1[X g_i > 0]) and K_i = 2 D_i - I, for each
output y by itself:

    gated   min_u      1/(2n) ||y - sum_i D_i X u_i||^2         + lambda sum_i ||u_i||
    relu    min_{v,w}  1/(2n) ||y - sum_i D_i X (v_i - w_i)||^2 + lambda sum_i (||v_i|| + ||w_i||)
            with K_i X v_i >= 0 and K_i X w_i >= 0

(Pilanci and Ergen, ICML 2020; Mishkin, Sahiner and Pilanci, ICML 2022). The dual of either is

    max_theta  ||y||^2/(2n) - (n/2) ||theta - y/n||^2    with h_i(+-theta) <= lambda for every gate i

where h_i(theta) = ||X' D_i theta|| (gated), or the length of the projection of X' D_i theta onto the cone
{u: K_i X u >= 0} (relu), that is, the least ||X' D_i theta + X' K_i mu|| over mu >= 0. Any mu bounds it from
above, so the dual value below is a lower bound on the minimum whatever the inner solver's accuracy.

All peers are judged by these functions, at the point made from the weights they return and, as they have one,
at the dual point they return, which is scaled until it is feasible; by nothing else that they say themselves. A folder with X.npy, Y.npy and G.npy is a problem, but for lambda.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import nnls

# Neurons shorter than this share of the sum of all lengths are taken away before a point is judged: interior
# points leave such a rest at every gate, and its direction is noise.
NEGLIGIBLE = 1e-8


class Problem:
    """X, Y, the gates, their masks 1[X g > 0] (n x P), and lambda."""

    def __init__(self, X, Y, G, lam):
        self.X, self.G, self.lam = np.asfortranarray(X, dtype=float), np.asarray(G, dtype=float), float(lam)
        self.Y = np.asarray(Y, dtype=float).reshape(len(X), -1)
        self.masks = X @ G > 0

    @property
    def shape(self):
        """n, d, P, C."""
        return (*self.X.shape, self.G.shape[1], self.Y.shape[1])

    def predict(self, U):
        """sum_i D_i X u_i of U (C x P x d): n x C."""
        return np.stack([np.sum(self.masks * (self.X @ u.T), axis=1) for u in U], axis=1)

    def network(self, V, W):
        """What the ReLU network with these neurons computes, feasible or not: n x C."""
        active = lambda u: np.sum(np.maximum(self.X @ u.T, 0), axis=1)
        return np.stack([active(v) - active(w) for v, w in zip(V, W)], axis=1)

    def correlations(self, r):
        """X' D_i r for every gate: d x P."""
        return self.X.T @ (self.masks * r[:, None])

    def design(self):
        """[D_1 X, ..., D_P X], n x (P d), in columns."""
        n, d, gates, _ = self.shape
        matrix = np.empty((n, gates * d), order="F")
        for i in range(gates):
            np.multiply(self.X, self.masks[:, i, None], out=matrix[:, i * d : (i + 1) * d])
        return matrix

    def lambda_max(self):
        """The least lambda at which the gated program's minimum is zero."""
        return max(np.linalg.norm(self.correlations(y), axis=0).max() for y in self.Y.T) / len(self.X)


def read(folder, lam):
    """The problem in `folder`."""
    X, Y, G = (np.load(Path(folder) / f"{name}.npy") for name in "XYG")
    return Problem(X, Y, G, lam)


def write(folder, X, Y, G):
    """Makes the folder of a problem."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, array in (("X", X), ("Y", Y), ("G", G)):
        np.save(Path(folder) / f"{name}.npy", np.ascontiguousarray(array, dtype=np.float64))


def sample_gates(X, count, seed):
    """`count` standard normal gate vectors (d x P) whose patterns differ and are not zero; fewer where ten times
    as many draws did not find so many."""
    generator = np.random.default_rng(seed)
    found, seen = [], {bytes(len(X))}
    for _ in range(10):
        draws = generator.standard_normal((X.shape[1], count))
        for g, mask in zip(draws.T, (X @ draws > 0).T):
            if len(found) < count and mask.tobytes() not in seen:
                seen.add(mask.tobytes())
                found.append(g)
    return np.array(found).T


def prune(U):
    """U without its negligible neurons."""
    lengths = np.linalg.norm(U, axis=2, keepdims=True)
    return np.where(lengths > NEGLIGIBLE * lengths.sum(), U, 0.0)


def gated_certificate(problem, U, duals=None):
    """What is proved about U (C x P x d) as a point of the gated program; `duals` (C x n) are dual points to try
    beside the residuals."""
    U = prune(U)
    bound = lambda r: np.linalg.norm(problem.correlations(r), axis=0).max()
    residuals, lengths = problem.Y - problem.predict(U), np.linalg.norm(U, axis=2)
    return certificate(problem, residuals, lengths, bound, duals) | {"constraint_violation": 0.0, "violation_of_longest": 0.0}


def relu_certificate(problem, V, W, duals=None):
    """What is proved about V and W (C x P x d) as a point of the ReLU program, and the objective of the ReLU
    network with those neurons (that of the program, if the point is feasible)."""
    V, W = np.split(prune(np.concatenate([V, W], axis=1)), 2, axis=1)
    lengths = np.linalg.norm(np.concatenate([V, W], axis=1), axis=2)
    bound = lambda r: relu_bound(problem, r)
    proved = certificate(problem, problem.Y - problem.predict(V - W), lengths, bound, duals)
    rest = problem.Y - problem.network(V, W)
    proved["network_objective"] = np.sum(rest**2) / (2 * len(rest)) + problem.lam * lengths.sum()
    longest = lengths.max(initial=0.0)
    proved["constraint_violation"] = max(violation(problem, u) for U in (V, W) for u in U)
    proved["violation_of_longest"] = max(violation(problem, u, longest) for U in (V, W) for u in U)
    return proved


def certificate(problem, residuals, lengths, bound, duals):
    """Objective, dual value and relative gap; the dual point of an output is its residual, or the solver's own
    where that is better, on the best scale allowed."""
    n = len(problem.X)
    objective = np.sum(residuals**2) / (2 * n) + problem.lam * lengths.sum()
    dual = 0.0
    for c, y in enumerate(problem.Y.T):
        candidates = [residuals[:, c]] if duals is None else [residuals[:, c], duals[c]]
        dual += max(dual_value(problem, y, r, bound(r)) for r in candidates)
    return {
        "objective": objective,
        "dual_value": dual,
        "relative_duality_gap": (objective - dual) / objective,
        "neurons": int(np.count_nonzero(lengths)),
    }


def dual_value(problem, y, r, bound):
    """Of theta = s r / n, with the best s: max_s (2 s y'r - s^2 r'r) / (2n) with |s| bound <= n lambda, where
    `bound` is the greatest h_i(+-r)."""
    n, tiny = len(y), np.finfo(float).tiny
    limit = n * problem.lam / max(bound, tiny)
    scale = np.clip(y @ r / max(r @ r, tiny), -limit, limit)
    return (2 * scale * (y @ r) - scale**2 * (r @ r)) / (2 * n)


def relu_bound(problem, r):
    """The greatest length of a projection of +-X' D_i r onto the cone of gate i. A projection is no longer than
    what is projected, so gates are taken in that order, until none can be longer than the longest found."""
    targets = problem.correlations(r)
    lengths = np.linalg.norm(targets, axis=0)
    longest = 0.0
    for i in np.argsort(-lengths):
        if lengths[i] <= longest:
            break
        rows = np.asfortranarray(problem.X.T * (2.0 * problem.masks[:, i] - 1.0))
        for target in (targets[:, i], -targets[:, i]):
            longest = max(longest, projection_length(rows, target))
    return longest


def projection_length(rows, target):
    """min over mu >= 0 of ||target + rows mu||, or ||target||, which bounds it, where no solution is found."""
    try:
        return nnls(rows, -target, maxiter=20 * rows.shape[1])[1]
    except RuntimeError:
        return float(np.linalg.norm(target))


def violation(problem, U, length=None):
    """max over neurons and samples of -(2 D_i - I) x' u / (||x|| ||u||), at least 0, of U (P x d); with a `length`
    in the place of ||u||, which forgives short neurons."""
    rows, live = (np.linalg.norm(a, axis=1) for a in (problem.X, U))
    X, U, lengths = problem.X[rows > 0], U[live > 0], live[live > 0] if length is None else length
    signs = 2.0 * problem.masks[rows > 0][:, live > 0] - 1.0
    products = X @ U.T / (rows[rows > 0, None] * lengths)
    return float(max(0.0, np.max(-signs * products, initial=0.0)))
