#!/usr/bin/env bash
# Images per second of convextune, PyTorch and (forward) onnxruntime, alternating processes in one run.
# usage: engine.sh PYTHON [ROUNDS [MODEL...]] > runs/<date>/engine.jsonl
# PYTHON is the interpreter of the environment that dev/fixtures/make_venv.sh makes.
# `engine_table.py FILE` makes a table of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${1:?the Python of the peers environment}
rounds=${2:-7}
models=("${@:3}")
[ ${#models[@]} -gt 0 ] || models=(efficientnet-lite0 mobilenetv2 resnet18 resnet50 vgg16)
cargo build --release --locked -p convextune-bench >&2
own=target/release/convextune-bench
declare -A torch=([efficientnet-lite0]=efficientnet_lite0 [mobilenetv2]=mobilenet_v2
    [resnet18]=resnet18 [resnet50]=resnet50 [vgg16]=vgg16)
for round in $(seq "$rounds"); do
    "$own" engine --mode peak
    for model in "${models[@]}"; do
        for mode in forward jvp vjp normal; do
            "$own" engine --backbone "$model" --mode "$mode" --seconds 4
            "$python" -W ignore dev/peers/bench_torch.py --model "${torch[$model]}" --mode "$mode" --rounds 1 --seconds 4
        done
        "$python" -W ignore dev/peers/bench_torch.py --model "${torch[$model]}" --mode onnx --rounds 1 --seconds 4 2>/dev/null ||
            echo "engine.sh: no figure of onnxruntime for $model" >&2
    done
done
