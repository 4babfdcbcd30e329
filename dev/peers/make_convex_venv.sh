#!/bin/sh
# Makes the virtual environment of the peers of `convextune nn`: solvers of group lassos, conic programs and
# convex networks, and scikit-learn.
#
#   dev/peers/make_convex_venv.sh [FOLDER]        (default: .venv-convex)
#
# The product never uses it.
set -eu
folder=${1:-.venv-convex}
${PYTHON:-python3} -m venv "$folder"
"$folder/bin/pip" install --quiet celer==0.7.4 skglm==0.5 pyscnn==0.0.10 cvxpy clarabel scs scikit-learn numpy
"$folder/bin/python" - <<'PYTHON'
from importlib.metadata import version

for name in ("celer", "skglm", "pyscnn", "cvxpy", "clarabel", "scs", "scikit-learn", "numpy", "numba"):
    print(name, version(name))
PYTHON
