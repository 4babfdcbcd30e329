"""One convex program of a two-layer network by one public solver, in one process.

    python convex_peers.py FOLDER --solver celer --lambda 1e-3 --activation gated --threads 1 --target-gap 1e-6

FOLDER holds X.npy, Y.npy and G.npy (`convex_problem.py` has the programs and the certificates). The solver is
run from its loosest tolerance to its tightest (or over `--tolerances`), from scratch each time, until the
relative gap, recomputed here, is at most `--target-gap`. One JSON line each on standard output:

    {"event": "start", "tolerance": ...}      the clock starts
    {"event": "solved", ...}                  it has stopped; a reader may kill the process between these two
    {"event": "result", "seconds": ..., "setup_seconds": ..., "objective": ..., "dual_value": ...,
     "relative_duality_gap": ..., "constraint_violation": ..., "violation_of_longest": ..., "neurons": ...,
     and what was run}

`build_seconds` is what making the explicit matrices took, compilation included where there is one; the
compiled solvers have solved a small problem of the same types before the clock starts.
"""

import argparse
import json
import os
import time
import warnings


def arguments():
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder with X.npy, Y.npy, G.npy")
    parser.add_argument("--solver", required=True, help="celer, skglm, pyscnn, pyscnn32, clarabel, clarabel-faer")
    parser.add_argument("--lambda", dest="lam", type=float, required=True, help="strength of the penalty")
    parser.add_argument("--activation", choices=("gated", "relu"), default="gated")
    parser.add_argument("--tolerances", help="comma-separated, instead of the solver's ladder")
    parser.add_argument("--target-gap", type=float, default=1e-6, help="stop at this relative duality gap")
    parser.add_argument("--max-violation", type=float, default=1e-6, help="and at most this much of the longest neuron (relu)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trajectory", action="store_true", help="print the objectives seen on the way (pyscnn)")
    return parser.parse_args()


def set_threads(threads):
    """Before numpy is loaded: its BLAS and the compilers read the environment once. Any choice of a kernel that
    the surroundings made is taken back, so that the BLAS picks the one for this machine."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)


def blas_kernels():
    """What the loaded BLAS libraries chose."""
    from threadpoolctl import threadpool_info

    libraries = [i for i in threadpool_info() if i["user_api"] == "blas"]
    return sorted({f"{i['internal_api']} {i['version']} {i.get('architecture')} {i['num_threads']}" for i in libraries})


def tell(**line):
    """One JSON line."""
    print(json.dumps(line), flush=True)


def main():
    """See the module."""
    options = arguments()
    set_threads(options.threads)
    warnings.filterwarnings("ignore")
    import convex_problem
    import convex_solvers

    kind = convex_solvers.SOLVERS[options.solver]
    if options.activation not in kind.activations:
        raise SystemExit(f"{options.solver} does not solve {options.activation} programs")
    if hasattr(kind, "threads"):
        kind.threads = options.threads
    problem = convex_problem.read(options.folder, options.lam)
    start = time.perf_counter()
    solver = kind(problem, options.activation)
    run = {
        "solver": options.solver, "version": convex_solvers.package_version(options.solver), "activation": options.activation,
        "lambda": options.lam, "gates": problem.shape[2], "threads": options.threads, "blas": blas_kernels(),
        "build_seconds": time.perf_counter() - start,
    }  # fmt: skip
    ladder = [float(t) for t in options.tolerances.split(",")] if options.tolerances else kind.ladder
    for tolerance in ladder:
        tell(event="start", tolerance=tolerance)
        solved = solver.solve(tolerance)
        tell(event="solved", seconds=solved.seconds)
        if options.activation == "gated":
            proved = convex_problem.gated_certificate(problem, solved.weights, solved.duals)
        else:
            proved = convex_problem.relu_certificate(problem, *solved.weights, solved.duals)
        times = {"seconds": solved.seconds, "setup_seconds": solved.setup_seconds, "status": solved.note}
        way = {"trajectory": solved.trajectory} if options.trajectory else {}
        tell(event="result", **run, tolerance=tolerance, **times, **proved, **way)
        if (
            proved["relative_duality_gap"] <= options.target_gap
            and proved["violation_of_longest"] <= options.max_violation
        ):
            break


if __name__ == "__main__":
    main()
