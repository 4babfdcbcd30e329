#!/usr/bin/env bash
# Time to a certified optimum: convextune beside the standard recipes in PyTorch (torch.func), one after the
# other, each in a process of its own, for some rounds.
# usage: optimum.sh PYTHON FOLDER WEIGHTS SIZE PASSES [ROUNDS] > runs/<date>/optimum-<set>.jsonl
# WEIGHTS is EfficientNet-Lite0's file. All minimise the same kind of problem: a random head whose classes share
# the weights of the whole network, f0 kept, the plain penalty ||u||^2, one Lambda (chosen by convextune's leave-one-out).
# RAYON_NUM_THREADS sets the threads of both; BENCH names a convextune-bench built before.
# `optimum_table.py FILE` says when each came within 1e-3 of the minimum.
set -euo pipefail
python=$1 folder=$(realpath "$2") weights=$(realpath "$3") size=$4 passes=$5 rounds=${6:-1}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
[ -n "${BENCH:-}" ] || cargo build --release --locked -p convextune-bench >&2
shared='{"head_init":"random","keep_f0":true,"leaky_slope":0.01,"backbone_weight":{"scale":1.0}}'
for round in $(seq "$rounds"); do
    "${BENCH:-target/release/convextune-bench}" convergence "$folder" --weights "$weights" --image-size "$size" \
        --shared "$shared" --solvers auto,kfac,none | tee "$lines"
    lambda=$(head -1 "$lines" | "$python" -c 'import json,sys; print(json.load(sys.stdin)["lambda"])')
    for method in "sgd 3e-5" "sgd 1e-4" "sgd 3e-4" "sgd 1e-3" "adam 1e-4" "adam 3e-4" "adam 1e-3"; do
        set -- $method
        "$python" -W ignore dev/peers/sgd_lqf.py --images "$folder/train" --weights "$(dirname "$weights")" \
            --threads "${RAYON_NUM_THREADS:-2}" --Lambda "$lambda" --size "$size" --method "$1" --rate "$2" --passes "$passes" --every 5 |
            "$python" -c 'import json,sys
for line in sys.stdin: print(json.dumps({"method": sys.argv[1], "rate": sys.argv[2]} | json.loads(line)), flush=True)' "$1" "$2"
    done
    "$python" -W ignore dev/peers/sgd_lqf.py --images "$folder/train" --weights "$(dirname "$weights")" \
        --threads "${RAYON_NUM_THREADS:-2}" --Lambda "$lambda" --size "$size" --method cg --passes "$passes" --every 5 |
        "$python" -c 'import json,sys
for line in sys.stdin: print(json.dumps({"method": "cg"} | json.loads(line)), flush=True)'
done
