#!/bin/sh
# Test error of fc, lqf-fc and lqf (seeds as given in SEEDS, by default 0), beside each other, with the certificates.
#   dev/bench/accuracy.sh WEIGHTS SIZE OUTPUT.jsonl FOLDER...
set -eu
fits=''
for seed in ${SEEDS:-0}; do
    fits="$fits --fit {\"seed\":$seed}"
done
weights=$1 size=$2 output=$3
shift 3
for folder in "$@"; do
    # shellcheck disable=SC2086
    target/release/convextune-bench study "$folder" --weights "$weights" --image-size "$size" \
        --fit '{"method":"fc"}' --fit '{"method":"lqf-fc"}' \
        $fits >> "$output"
done
