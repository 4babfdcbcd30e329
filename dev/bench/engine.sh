#!/usr/bin/env bash
# Images per second of convextune and PyTorch, alternating processes in one run.
# usage: engine.sh PYTHON [ROUNDS] > runs/<date>/engine.jsonl
# PYTHON is the interpreter of the environment that dev/fixtures/make_venv.sh makes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${1:?the Python of the peers environment}
rounds=${2:-3}
cargo build --release --locked -p convextune-bench >&2
declare -A torch=([efficientnet-lite0]=efficientnet_lite0 [resnet50]=resnet50)
for round in $(seq "$rounds"); do
    for model in efficientnet-lite0 resnet50; do
        for mode in forward jvp vjp; do
            target/release/convextune-bench engine --backbone "$model" --mode "$mode" --seconds 6
            "$python" dev/peers/bench_torch.py --model "${torch[$model]}" --mode "$mode" --rounds 1 --seconds 6
        done
    done
done
