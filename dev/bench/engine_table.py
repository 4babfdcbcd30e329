#!/usr/bin/env python3
"""A table of what engine.sh printed: medians over the rounds, ranges, ratios, memory; with onnxruntime's
forward passes beside ours.

    python3 dev/bench/engine_table.py dev/bench/runs/<date>/engine.jsonl
"""

import collections
import json
import statistics
import sys


def read(path):
    """Lines by (model, mode), for us and for PyTorch; and the machine's best matrix products."""
    own, peer, peak = (collections.defaultdict(list) for _ in range(3))
    with open(path, encoding="utf-8") as file:
        for line in map(json.loads, file):
            if line["mode"] == "peak":
                peak["peak"].append(max(line["gemm_gflops"], line["tiles_gflops"]))
                continue
            key = line["model"].replace("_", "").replace("-", ""), line["mode"]
            (own if line["engine"] == "convextune" else peer)[key].append(line)
    return own, peer, peak["peak"]


def middle(values):
    """Median and range, as text."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main():
    """Prints the table."""
    own, peer, peak = read(sys.argv[1])
    best = statistics.median(peak) if peak else None
    if best:
        print(f"Matrix products in the cache: {middle(peak)} GFLOP/s.\n")
    print("| network | pass | images/s | PyTorch | ratio | GFLOP/s if direct, share of peak | MiB | PyTorch's |")
    print("|---|---|---|---|---|---|---|---|")
    for key, lines in own.items():
        ours = [line["images_per_second"] for line in lines]
        theirs = [line["images_per_s"] for line in peer[key]]
        # Rounds are compared with themselves: the machine's speed drifts.
        ratio = f"{statistics.median(a / b for a, b in zip(ours, theirs)):.2f}" if theirs else "-"
        rate = statistics.median(line["gflops_if_direct"] for line in lines)
        share = f"{rate:.0f}, {100 * rate / best:.0f} %" if best else f"{rate:.0f}"
        memory = max(line["peak_memory_bytes"] for line in lines) >> 20
        other = max((line["peak_rss_mib"] for line in peer[key]), default=0)
        print(
            f"| {key[0]} | {key[1]} | {middle(ours)} | {middle(theirs) if theirs else '-'} |"
            f" {ratio} | {share} | {memory} | {other} |"
        )
    for (model, mode), lines in peer.items():
        if mode == "onnx":
            theirs = [line["images_per_s"] for line in lines]
            ours = [line["images_per_second"] for line in own[model, "forward"]]
            ratio = statistics.median(a / b for a, b in zip(ours, theirs))
            print(f"\n{model}: forward {ratio:.2f} times onnxruntime's {middle(theirs)} images/s.")


if __name__ == "__main__":
    main()
