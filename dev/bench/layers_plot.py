"""Where a backbone's time goes, layer by layer: a table by kind of layer and a plot of every convolution.

    convextune-bench engine --backbone resnet50 --mode layers > runs/<date>/layers-resnet50.jsonl
    python3 dev/bench/layers_plot.py runs/<date>/layers-resnet50.jsonl PEAK PLOT.svg

PEAK is the GFLOP/s of the machine's matrix products (`convextune-bench engine --mode peak`). A bar is as wide as the
layer's share of the pass's time, as high as its GFLOP/s as if summed directly (Winograd's algorithm may pass PEAK):
what a bar lacks in height is time lost.
"""

import collections
import json
import sys

PASSES = ("forward", "dual", "adjoint to the input", "adjoint to the weights")
COLOURS = {"pointwise": "#06c", "convolution": "#393", "depthwise": "#c60", "batch norm": "#999", "other": "#999"}
WIDTH, HEIGHT = 900, 120


def table(lines, peak):
    """Milliseconds, share of the time and rate by kind, for each pass."""
    print("| pass | kind | ms | share of time | GFLOP/s if direct | share of peak |")
    print("|---|---|---|---|---|---|")
    for k, name in enumerate(PASSES):
        sums = collections.defaultdict(lambda: [0.0, 0.0])
        for line in lines:
            ms = line["milliseconds"][k]
            sums[line["kind"]][0] += ms
            sums[line["kind"]][1] += ms * (line["gflops_if_direct"] or [0] * 4)[k]
        total = sum(ms for ms, _ in sums.values())
        for kind, (ms, work) in sorted(sums.items(), key=lambda item: -item[1][0]):
            rate = f"{work / ms:.0f} | {100 * work / ms / peak:.0f} %" if work else "- | -"
            print(f"| {name} | {kind} | {ms:.1f} | {100 * ms / total:.0f} % | {rate} |")


def panel(lines, k, peak, top):
    """One pass."""
    total = sum(line["milliseconds"][k] for line in lines)
    highest = 1.6 * peak
    parts = [f'<text x="40" y="{top - 8}">{PASSES[k]}, {total:.0f} ms node by node</text>']
    across = 40.0
    for line in lines:
        width = (WIDTH - 60) * line["milliseconds"][k] / total
        rate = (line["gflops_if_direct"] or [0] * 4)[k]
        high = max(1.0, min(rate / highest, 1.0) * HEIGHT)
        title = f'{line["node"]} {line["output"]}: {line["milliseconds"][k]:.1f} ms, {rate:.0f} GFLOP/s'
        parts.append(
            f'<rect x="{across:.1f}" y="{top + HEIGHT - high:.1f}" width="{max(width - 0.4, 0.2):.1f}" height="{high:.1f}" '
            f'fill="{COLOURS[line["kind"]]}"><title>{title}</title></rect>'
        )
        across += width
    down = top + HEIGHT * (1 - 1 / 1.6)
    parts.append(f'<line x1="40" x2="{WIDTH - 20}" y1="{down:.0f}" y2="{down:.0f}" stroke="#c00" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="36" y="{down + 4:.0f}" text-anchor="end" font-size="11" fill="#c00">{peak:.0f}</text>')
    return "\n".join(parts)


def main():
    """See the module."""
    source, peak, output = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    with open(source, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    table(lines, peak)
    panels = [panel(lines, k, peak, 60 + k * (HEIGHT + 40)) for k in range(len(PASSES))]
    legend = " ".join(
        f'<tspan fill="{colour}">{kind}</tspan>' for kind, colour in COLOURS.items() if kind != "batch norm"
    )
    head = f'{lines[0]["model"]}: width = share of the time, height = GFLOP/s if direct, dashed = peak of matrix products. {legend}'
    with open(output, "w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {60 + 4 * (HEIGHT + 40)}" font-family="sans-serif" '
            f'font-size="13"><rect width="100%" height="100%" fill="white"/>\n<text x="40" y="24">{head}</text>\n'
            + "\n".join(panels)
            + "\n</svg>\n"
        )


if __name__ == "__main__":
    main()
