"""Times PyTorch or onnxruntime on one network and one kind of pass; prints one JSON line.

    python bench_torch.py --model resnet50 --mode jvp --rounds 1 --seconds 6

One process does one thing, so that its peak memory is its own and a driver can alternate peers.
PyTorch runs eagerly in channels_last, BatchNorm in evaluation mode, float32, random weights.

Modes: `forward`; `jvp` (forward mode over all weights); `vjp` (forward, then the gradient of all
weights); `normal` (jvp, then vjp at its result: one product with J'J); `onnx` (forward in
onnxruntime).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
MODELS = ["resnet18", "resnet50", "vgg16", "mobilenet_v2", "efficientnet_lite0"]


def make_network(name, activation):
    """The network, channels_last, with its own activations or leaky ones."""
    import torch

    if name == "efficientnet_lite0":
        import timm

        net = timm.create_model("tf_efficientnet_lite0")
    else:
        import torchvision

        net = getattr(torchvision.models, name)()
    if activation == "leaky":
        sys.path.insert(0, str(FIXTURES))
        from leaky import make_leaky

        make_leaky(net)
    return net.eval().to(memory_format=torch.channels_last)


def torch_pass(arguments):
    """A function of no arguments that makes one pass, and the name of the engine."""
    import torch
    from torch.func import functional_call, jvp

    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    net = make_network(arguments.model, arguments.activation)
    batch = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    batch = batch.to(memory_format=torch.channels_last)
    weights = dict(net.named_parameters())
    fixed = {name: tensor.detach() for name, tensor in weights.items()}
    tangents = {name: 1e-2 * torch.randn_like(tensor) for name, tensor in fixed.items()}

    def forward():
        with torch.no_grad():
            return net(batch)

    def tangent():
        return jvp(lambda w: functional_call(net, w, (batch,)), (fixed,), (tangents,))[1]

    def adjoint(cotangent):
        return torch.autograd.grad(net(batch), list(weights.values()), cotangent)

    with torch.no_grad():
        ones = torch.ones(net(batch[:1]).shape).expand(arguments.batch, -1).contiguous()
    passes = {
        "forward": forward,
        "jvp": tangent,
        "vjp": lambda: adjoint(ones),
        "normal": lambda: adjoint(tangent().detach()),
    }
    return passes[arguments.mode], f"torch {torch.__version__}"


def export(arguments):
    """Writes the network as an ONNX file (in a process of its own, for the sake of memory)."""
    import torch

    net = make_network(arguments.model, arguments.activation)
    batch = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    torch.onnx.export(net, (batch,), arguments.export, dynamo=True, verbose=False)


def onnx_pass(arguments):
    """As `torch_pass`, for onnxruntime's forward pass."""
    import numpy
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        command = [sys.executable, __file__, "--export", str(path)]
        for option in ("model", "activation", "batch", "size"):
            command += [f"--{option}", str(getattr(arguments, option))]
        subprocess.run(command, check=True, stdout=sys.stderr)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    feed = {session.get_inputs()[0].name: numpy.random.default_rng(0).normal(size=shape)}
    feed = {name: value.astype("float32") for name, value in feed.items()}
    return lambda: session.run(None, feed), f"onnxruntime {onnxruntime.__version__}"


def measure(run, seconds):
    """Times of single passes until `seconds` are over, three at least."""
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--mode", choices=["forward", "jvp", "vjp", "normal", "onnx"])
    parser.add_argument("--activation", choices=["native", "leaky"], default="leaky")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Measures and prints the line."""
    arguments = parse()
    if arguments.export:
        return export(arguments)
    run, engine = (onnx_pass if arguments.mode == "onnx" else torch_pass)(arguments)
    run()
    rounds = [measure(run, arguments.seconds) for _ in range(arguments.rounds)]
    median = statistics.median(time for times in rounds for time in times)
    names = ("model", "mode", "activation", "batch", "size", "threads")
    line = {"engine": engine} | {name: getattr(arguments, name) for name in names}
    line |= {
        "passes": sum(map(len, rounds)),
        "round_medians_s": [round(statistics.median(times), 5) for times in rounds],
        "best_s": round(min(map(min, rounds)), 5),
        "images_per_s": round(arguments.batch / median, 2),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
