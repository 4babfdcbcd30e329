#!/bin/sh
# Makes the virtual environment of the peers of `convextune explain` and `rank`: PyTorch, with kronfluence, TRAK,
# captum and cleanlab.
#
#   dev/peers/make_influence_venv.sh [FOLDER] [BASE]        (defaults: .venv-influence, .venv-peers)
#
# BASE is the environment that `dev/fixtures/make_venv.sh` makes; its torch, torchvision and timm are used from
# there. The product never uses either.
set -eu
folder=${1:-.venv-influence}
base=${2:-.venv-peers}
"$base/bin/python" -m venv "$folder"
site=$("$base/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
own=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$site" >"$own/base.pth"
"$folder/bin/pip" install --quiet kronfluence==1.0.1 traker==0.3.2 captum==0.9.0 'cleanlab[datalab]==2.9.0'
"$folder/bin/python" - <<'PYTHON'
from importlib.metadata import version

for name in ("torch", "torchvision", "timm", "numpy", "kronfluence", "traker", "captum", "cleanlab", "scikit-learn"):
    print(name, version(name))
PYTHON
