#!/usr/bin/env bash
# Every solver and preconditioner on subsets of real image sets, at one Lambda each.
# usage: convergence.sh WEIGHTS SIZE FOLDER... > runs/<date>/convergence.jsonl
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
weights=${1:?weight file} size=${2:?image size}
shift 2
cargo build --release --locked -p convextune-bench >&2
for folder in "$@"; do
    target/release/convextune-bench convergence "$folder" --weights "$weights" --image-size "$size"
done
