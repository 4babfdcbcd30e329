"""The peers' solvers of `convex_problem.Problem`, each behind the same two methods.

    solver = SOLVERS[name](problem, activation)    builds what the solver wants and compiles it (not timed as solving)
    solver.solve(tolerance)                        -> Solved

Outputs are solved one after the other where a solver takes only one; their times are added.
"""

import time
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np


@dataclass
class Solved:
    """Weights U (C x P x d) of a gated program or the pair (V, W) of a ReLU program, the seconds of the solver
    itself, those of its set-up that depends on the problem, its dual point (C x n, any scale) if it has one, and
    the objectives it saw on its way, with their times, if it tells."""

    weights: object
    seconds: float
    setup_seconds: float = 0.0
    note: str = ""
    duals: object = None
    trajectory: list = field(default_factory=list)


def small_problem(width, groups):
    """A small group lasso to compile with: design, targets, lambda."""
    generator = np.random.default_rng(0)
    X = np.asfortranarray(generator.standard_normal((20, width * groups)))
    return X, generator.standard_normal(20), 0.05


class Celer:
    """celer's working sets with dual extrapolation (Massias, Vaiter, Gramfort, Salmon, JMLR 2020), by
    `celer_path` at one lambda; the tolerance is of the duality gap, relative to ||y||^2 / n."""

    package, activations, ladder = "celer", ("gated",), (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)

    def __init__(self, problem, _activation):
        from celer.homotopy import celer_path

        self.path, self.problem, self.design = celer_path, problem, problem.design()
        X, y, lam = small_problem(3, 10)
        self.run(X, y, lam, 3, 1e-6)

    def run(self, X, y, lam, width, tolerance):
        """Coefficients and dual point of one output."""
        options = {"max_iter": 100, "max_epochs": 50_000, "p0": 10, "prune": 1, "tol": tolerance, "return_thetas": True}
        _, coefficients, _, thetas = self.path(X, y, "grouplasso", alphas=[lam], groups=width, **options)
        return coefficients[:, 0], thetas[0]

    def solve(self, tolerance):
        """See the module."""
        _, d, gates, _ = self.problem.shape
        targets = [np.ascontiguousarray(y) for y in self.problem.Y.T]
        start = time.perf_counter()
        found = [self.run(self.design, y, self.problem.lam, d, tolerance) for y in targets]
        seconds = time.perf_counter() - start
        weights = np.array([f[0] for f in found]).reshape(-1, gates, d)
        return Solved(weights, seconds, duals=np.array([f[1] for f in found]))


class Skglm:
    """skglm's block coordinate descent with working sets and Anderson acceleration (Bertrand et al., NeurIPS
    2022); the tolerance is of the greatest distance of a group's gradient to its subdifferential."""

    package, activations, ladder = "skglm", ("gated",), (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)

    def __init__(self, problem, _activation):
        self.problem, self.design = problem, problem.design()
        X, y, lam = small_problem(3, 10)
        self.run(X, y, lam, 3, 1e-6)

    @staticmethod
    def run(X, y, lam, width, tolerance):
        """Coefficients of one output."""
        from skglm.datafits import QuadraticGroup
        from skglm.penalties import WeightedGroupL2
        from skglm.solvers import GroupBCD
        from skglm.utils.data import grp_converter

        indices, pointers = grp_converter(width, X.shape[1])
        penalty = WeightedGroupL2(lam, np.ones(len(pointers) - 1), pointers, indices)
        solver = GroupBCD(tol=tolerance, fit_intercept=False)
        return solver.solve(X, y, QuadraticGroup(pointers, indices), penalty)[0]

    def solve(self, tolerance):
        """See the module."""
        _, d, gates, _ = self.problem.shape
        targets = [np.ascontiguousarray(y) for y in self.problem.Y.T]
        start = time.perf_counter()
        found = [self.run(self.design, y, self.problem.lam, d, tolerance) for y in targets]
        seconds = time.perf_counter() - start
        return Solved(np.array(found).reshape(-1, gates, d), seconds)


class Pyscnn:
    """pyscnn's R-FISTA (gated) and augmented Lagrangian (ReLU), numpy backend (Mishkin, Sahiner, Pilanci, ICML
    2022); the tolerance is of the squared length of the least subgradient, and of the violation's. Its default is
    1e-6, and at most 10,000 iterations.

    By default pyscnn makes the columns of X unit and penalises the weights of those; on standardised data that is
    one factor for all columns, applied here to X and lambda both, so that the minimum stays that of the program.
    It divides the loss by the number of outputs too: so is lambda here, and the program is divided as a whole.
    """

    package, activations, ladder = "pyscnn", ("gated", "relu"), (1e-6, 1e-8, 1e-10, 1e-12)
    dtype = "float64"

    def __init__(self, problem, activation):
        import scnn.optimize  # noqa: F401 (the first import is slow)
        from scnn.activations import compute_activation_patterns

        self.problem, self.activation = problem, activation
        self.scale = np.sqrt(np.mean(np.sum(problem.X**2, axis=0)))
        # pyscnn sorts the gates by their patterns, in its own precision.
        X = np.asarray(problem.X / self.scale, dtype=self.dtype)
        sorted_gates = compute_activation_patterns(X, problem.G)[1]
        places = {g.tobytes(): i for i, g in enumerate(np.ascontiguousarray(problem.G.T))}
        self.order = [places[g.tobytes()] for g in np.ascontiguousarray(sorted_gates.T)]

    def solve(self, tolerance):
        """See the module. `seconds` is of the whole call, which also sorts the gates."""
        from scnn.metrics import Metrics
        from scnn.models import ConvexGatedReLU, ConvexReLU
        from scnn.optimize import optimize_model
        from scnn.regularizers import NeuronGL1
        from scnn.solvers import AL, RFISTA

        outputs = self.problem.shape[3]
        if self.activation == "gated":
            model = ConvexGatedReLU(self.problem.G.copy(), c=outputs)
            solver = RFISTA(model, tol=tolerance)
        else:
            model = ConvexReLU(self.problem.G.copy(), c=outputs)
            solver = AL(model, tol=tolerance, constraint_tol=tolerance)
        X, penalty = self.problem.X / self.scale, NeuronGL1(self.problem.lam / (self.scale * outputs))
        start = time.perf_counter()
        model, metrics = optimize_model(
            model, solver, Metrics(), X, self.problem.Y, regularizer=penalty, return_convex=True, unitize_data=False, device="cpu", dtype=self.dtype,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        weights = [self.restore(u) for u in model.get_parameters()]
        if self.activation == "relu":
            return Solved(tuple(weights), seconds)
        steps = zip(np.ravel(metrics.time).tolist(), (outputs * np.ravel(metrics.objective)).tolist())
        return Solved(weights[0], seconds, trajectory=[list(step) for step in steps])

    def restore(self, weights):
        """Its weights (C x P' x d), at the gates and on the scale of the problem."""
        outputs, _, d = weights.shape
        U = np.zeros((outputs, self.problem.shape[2], d))
        U[:, self.order] = np.asarray(weights, dtype=float) / self.scale
        return U


class Pyscnn32(Pyscnn):
    """The same in pyscnn's default precision."""

    dtype = "float32"


class Clarabel:
    """Clarabel's interior-point method (Goulart and Chen, 2024) by its own Python interface, with the
    residual as a variable, so that the quadratic term is diagonal and A keeps the zeros of D_i X:

        min ||z||^2/(2n) + lambda sum t    with z + A (v - w) = y, K_i X v_i >= 0, K_i X w_i >= 0, ||v_i|| <= t_i

    The matrices are made before the clock starts; `setup_seconds` is its equilibration and ordering. The
    tolerance is of its gap, absolute and relative, and of its residuals.
    """

    package, activations, ladder = "clarabel", ("gated", "relu"), (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
    method, threads = "auto", 1

    def __init__(self, problem, activation):
        import clarabel  # noqa: F401 (the first import is slow)
        from scipy import sparse

        self.problem, self.signs = problem, (1.0,) if activation == "gated" else (1.0, -1.0)
        n, d, gates, _ = problem.shape
        halves, design = len(self.signs), sparse.csc_matrix(problem.design())
        weights, lengths = halves * gates * d, halves * gates
        self.width = weights + lengths + n
        residual = sparse.hstack([sign * design for sign in self.signs] + [sparse.csc_matrix((n, lengths)), sparse.eye(n)])
        cones = sparse.csc_matrix((0, self.width))
        if activation == "relu":
            rows = [(1.0 - 2.0 * problem.masks[:, i, None]) * problem.X for i in range(gates)] * halves
            cones = sparse.hstack([sparse.block_diag(rows), sparse.csc_matrix((halves * gates * n, lengths + n))])
        # Rows of (t_i, u_i), gate after gate.
        columns = np.empty((lengths, d + 1), dtype=int)
        columns[:, 0] = weights + np.arange(lengths)
        columns[:, 1:] = np.arange(weights).reshape(lengths, d)
        count = columns.size
        norms = sparse.csc_matrix((-np.ones(count), (np.arange(count), columns.ravel())), shape=(count, self.width))
        self.matrix = sparse.vstack([residual, cones, norms]).tocsc()
        self.cone_rows, self.lengths = cones.shape[0], lengths

    def solve(self, tolerance):
        """See the module."""
        found = [self.solve_output(y, tolerance) for y in self.problem.Y.T]
        n, d, gates, outputs = self.problem.shape
        halves = np.array([f[0] for f in found]).reshape(outputs, len(self.signs), gates, d).swapaxes(0, 1)
        weights = halves[0] if len(halves) == 1 else (halves[0], halves[1])
        setup, seconds = (sum(f[k] for f in found) for k in (1, 2))
        note = ", ".join(sorted({str(f[3]) for f in found}))
        return Solved(weights, seconds, setup, note, np.array([f[4] for f in found]))

    def solve_output(self, y, tolerance):
        """Weights, set-up and solving seconds, status, multipliers of the n equations."""
        import clarabel
        from scipy import sparse

        n, d = self.problem.shape[:2]
        quadratic = np.zeros(self.width)
        quadratic[-n:] = 1.0 / n
        linear = np.zeros(self.width)
        linear[-n - self.lengths : -n] = self.problem.lam
        right = np.concatenate([y, np.zeros(self.matrix.shape[0] - n)])
        cones = [clarabel.ZeroConeT(n)]
        cones += [clarabel.NonnegativeConeT(self.cone_rows)] if self.cone_rows else []
        cones += [clarabel.SecondOrderConeT(d + 1)] * self.lengths
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.direct_solve_method, settings.max_threads = False, self.method, self.threads
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
        P = sparse.diags(quadratic).tocsc()
        start = time.perf_counter()
        solver = clarabel.DefaultSolver(P, linear, self.matrix, right, cones, settings)
        ready = time.perf_counter()
        solution = solver.solve()
        end = time.perf_counter()
        weights, multipliers = np.array(solution.x)[: self.lengths * d], np.array(solution.z)[:n]
        return weights, ready - start, end - ready, solution.status, multipliers


class ClarabelFaer(Clarabel):
    """The same with its supernodal factorisation, which uses threads."""

    method = "faer"


SOLVERS = {
    "celer": Celer, "skglm": Skglm, "pyscnn": Pyscnn, "pyscnn32": Pyscnn32, "clarabel": Clarabel, "clarabel-faer": ClarabelFaer,
}  # fmt: skip


def package_version(name):
    """As installed."""
    return f"{SOLVERS[name].package} {version(SOLVERS[name].package)}"
