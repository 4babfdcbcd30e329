"""Optimal values of small convex programs of two-layer networks, by CVXPY and Clarabel.

    python reference_cvxpy.py > ../fixtures/convex/optima.json

in the environment of make_convex_venv.sh. The file is described in dev/fixtures/README.md. Written from the
programs' definitions (docs/math/convex-networks.md, section 1): norms, cones and losses as CVXPY has them.
"""

import contextlib
import json
import sys
import warnings
from importlib.metadata import version

import cvxpy as cp
import numpy as np

SAMPLES, FEATURES, GATES, LAMBDA, SEED = 12, 3, 6, 0.03, 20
# The first that the solver reaches counts; with quadratics as cones it gets further than with a quadratic objective.
TOLERANCES = (1e-11, 1e-10, 1e-9)
ALL_PENALTIES = ("neuron", "feature", "l1", "squared-l2", "nuclear")
# ReLU with l1 or feature-wise norms has no certificate, so nothing reads it.
PENALTIES = {"gated": ALL_PENALTIES, "relu": ("neuron", "squared-l2", "nuclear")}
LOSSES = [(loss, outputs) for loss in ("squared", "cross-entropy", "squared-hinge") for outputs in (1, 3)]


def data():
    """X with a column of ones, the masks of the gates (n x P, the last all on), and targets by loss and outputs."""
    rng = np.random.default_rng(SEED)
    X = np.round(rng.standard_normal((SAMPLES, FEATURES)), 3)
    X[:, -1] = 1.0
    masks = X @ rng.standard_normal((FEATURES, 10 * GATES)) > 0
    masks = np.unique(masks[:, masks.any(axis=0) & ~masks.all(axis=0)], axis=1)
    masks = rng.permutation(masks, axis=1)[:, : GATES - 1]
    masks = np.column_stack([masks, np.ones(SAMPLES, dtype=bool)])
    scores = np.abs(X @ rng.standard_normal((FEATURES, 3))) - 1 + 0.5 * rng.standard_normal((SAMPLES, 3))
    scores = np.round(scores, 3)
    best = np.eye(3)[scores.argmax(axis=1)]
    sign = np.where(scores[:, :1] > np.median(scores[:, 0]), 1.0, -1.0)
    targets = {
        ("squared", 1): scores[:, :1],
        ("squared", 3): scores,
        ("cross-entropy", 1): sign,
        ("cross-entropy", 3): best,
        ("squared-hinge", 1): sign,
        ("squared-hinge", 3): 2 * best - 1,
    }
    return X, masks, targets


def loss_of(loss, Z, Y):
    """F(Z)."""
    n, outputs = Y.shape
    if loss == "squared":
        return cp.sum_squares(Y - Z) / (2 * n)
    if loss == "squared-hinge":
        return cp.sum_squares(cp.pos(1 - cp.multiply(Y, Z))) / (2 * n)
    if outputs == 1:
        return cp.sum(cp.logistic(-cp.multiply(Y, Z))) / n
    return (cp.sum(cp.log_sum_exp(Z, axis=1)) - cp.sum(cp.multiply(Y, Z))) / n


def penalty_of(penalty, blocks):
    """R of blocks U_i, V_i, W_i (d x C)."""
    if penalty == "neuron":
        return sum(cp.sum(cp.norm(U, 2, axis=0)) for U in blocks)
    if penalty == "l1":
        return sum(cp.sum(cp.abs(U)) for U in blocks)
    if penalty == "squared-l2":
        return sum(cp.sum_squares(U) for U in blocks) / 2
    if penalty == "nuclear":
        return sum(cp.normNuc(U) for U in blocks)
    d, outputs = blocks[0].shape
    return sum(cp.norm(cp.hstack([U[j, c] for U in blocks])) for j in range(d) for c in range(outputs))


def optimum(problem, X, masks, Y):
    """The minimum, and the least tolerance that the solver reached."""
    n, outputs = Y.shape
    blocks, constraints, Z = [], [], np.zeros((n, outputs))
    for i, mask in enumerate(masks.T):
        cone = problem["activation"] == "relu" and problem["linear"] != i
        for sign in (1, -1) if cone else (1,):
            U = cp.Variable((X.shape[1], outputs))
            blocks.append(U)
            Z = Z + sign * (mask[:, None] * X) @ U
            if cone:
                constraints.append(((2 * mask[:, None] - 1) * X) @ U >= 0)
    if problem["intercept"]:
        Z = Z + np.ones((n, 1)) @ cp.Variable((1, outputs))
    objective = loss_of(problem["loss"], Z, Y) + problem["lambda"] * penalty_of(problem["penalty"], blocks)
    program = cp.Problem(cp.Minimize(objective), constraints)
    for tolerance in TOLERANCES:
        settings = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), tolerance)
        with contextlib.suppress(cp.SolverError):
            program.solve(solver=cp.CLARABEL, use_quad_obj=False, **settings)
            if program.status == cp.OPTIMAL:
                return float(program.value), tolerance
    sys.exit(f"{problem}: not solved to {TOLERANCES[-1]}")


def main():
    warnings.filterwarnings("ignore", "Solution may be inaccurate")
    X, masks, targets = data()
    problems = []
    for loss, outputs in LOSSES:
        for activation, penalties in PENALTIES.items():
            for penalty in penalties:
                k = len(problems)
                problem = {
                    "loss": loss, "outputs": outputs, "penalty": penalty, "activation": activation, "lambda": LAMBDA,
                    "intercept": k % 2 == 1, "linear": GATES - 1 if k % 3 == 2 else None,
                }  # fmt: skip
                problem["objective"], problem["tolerance"] = optimum(problem, X, masks, targets[loss, outputs])
                problems.append(problem)
    table = [
        {"loss": loss, "outputs": outputs, "rows": Y.tolist()} for (loss, outputs), Y in targets.items()
    ]
    versions = f"cvxpy {cp.__version__}, clarabel {version('clarabel')}"
    patterns = ["".join("01"[int(on)] for on in mask) for mask in masks.T]
    lines = [
        f'"versions": {json.dumps(versions)}',
        f'"x": {json.dumps(X.tolist())}',
        f'"patterns": {json.dumps(patterns)}',
        '"targets": [\n' + ",\n".join(map(json.dumps, table)) + "\n]",
        '"problems": [\n' + ",\n".join(map(json.dumps, problems)) + "\n]",
    ]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
