"""Minimises the linearised fine-tuning objective with the standard recipes, in PyTorch.

    L(u) = 1/2 sum_i || alpha y_i - f0(x_i) - J(x_i) u ||^2 + Lambda/2 ||u||^2

over u, all weights of backbone and head, with SGD (momentum 0.9, batch 28), Adam, or plain
conjugate gradients on the full batch (whose limit is the optimum to compare with).

    python sgd_lqf.py --images FOLDER --backbone efficientnet_lite0 --weights FOLDER \\
        --head head.safetensors --Lambda 10 --method sgd --rate 1e-4 --passes 20

prints one JSON line per evaluation: passes over the data so far (a pass is one JVP and one VJP of
every picture), seconds spent in them, L(u), ||grad L(u)|| relative to that at 0, and the bound
||grad L||^2 / (2 Lambda) on L(u) - min L. Evaluations are not counted in either.
`--head` holds `weight` [C, d] and, if wanted, `bias` [C]; classes are the folders in sorted order.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call, jvp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures"))
import nets  # noqa: E402
from leaky import make_leaky  # noqa: E402

BACKBONES = {  # name: (mean, deviation) on pixels from 0 to 255, by channel
    "efficientnet_lite0": ([127.0] * 3, [128.0] * 3),
    "mobilenet_v2_features": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
}
SUFFIXES = {".jpg", ".jpeg", ".png"}


def read_pictures(folder, size, mean, deviation):
    """Pictures and class numbers: short side to size / 0.875, bicubic, centre crop, normalised."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    pictures, labels = [], []
    for number, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                pictures.append(crop(Image.open(path).convert("RGB"), size))
                labels.append(number)
    batch = (np.stack(pictures) - np.array(mean)) / np.array(deviation)
    batch = torch.from_numpy(batch).permute(0, 3, 1, 2).float()
    return batch.contiguous(memory_format=torch.channels_last), torch.tensor(labels), len(classes)


def crop(image, size):
    """The centre `size` by `size` pixels after resizing the short side to size / 0.875."""
    scale = size / 0.875 / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float64)


def build(arguments, classes):
    """The leaky backbone with its head."""
    backbone, _ = nets.real(arguments.backbone, arguments.weights)
    if hasattr(backbone, "classifier"):
        backbone.classifier = nn.Identity()
    with torch.no_grad():
        width = backbone(torch.zeros(1, 3, arguments.size, arguments.size)).shape[1]
    head = load_file(arguments.head) if arguments.head else {}
    layer = nn.Linear(width, classes, bias="bias" in head or not head)
    if head:
        layer.load_state_dict(head)
    net = nn.Sequential(make_leaky(backbone), layer).eval()
    return net.to(memory_format=torch.channels_last)


class Problem:
    """The quadratic problem: its residuals, gradients and objective, u being one flat vector."""

    def __init__(self, net, pictures, targets, decay):
        self.net, self.pictures, self.targets, self.decay = net, pictures, targets, decay
        self.weights = dict(net.named_parameters())
        self.fixed = {name: tensor.detach() for name, tensor in self.weights.items()}
        self.dimension = sum(tensor.numel() for tensor in self.fixed.values())

    def split(self, u):
        """The flat vector as tensors by weight name."""
        parts = u.split([tensor.numel() for tensor in self.fixed.values()])
        return {n: p.view(t.shape) for p, (n, t) in zip(parts, self.fixed.items())}

    def outputs(self, rows, u):
        """f0 and J u on the pictures `rows`."""
        batch = self.pictures[rows]
        return jvp(lambda w: functional_call(self.net, w, (batch,)), (self.fixed,), (self.split(u),))

    def adjoint(self, rows, cotangent):
        """J' times `cotangent` on the pictures `rows`, flat."""
        outputs = self.net(self.pictures[rows])
        gradients = torch.autograd.grad(outputs, list(self.weights.values()), cotangent)
        return torch.cat([g.reshape(-1) for g in gradients])

    def batches(self, size):
        """All pictures in order, in batches."""
        return torch.arange(len(self.pictures)).split(size)

    def gradient(self, u, size=28):
        """Objective and gradient on all data."""
        objective = self.decay / 2 * dot(u, u)
        gradient = self.decay * u
        for rows in self.batches(size):
            f0, change = self.outputs(rows, u)
            residual = f0 + change - self.targets[rows]
            objective += 0.5 * dot(residual, residual)
            gradient += self.adjoint(rows, residual)
        return objective, gradient

    def product(self, v, size=28):
        """(J'J + Lambda I) v."""
        result = self.decay * v
        for rows in self.batches(size):
            result += self.adjoint(rows, self.outputs(rows, v)[1])
        return result


def dot(a, b):
    """Inner product in float64."""
    return float((a.double() * b.double()).sum())


def first_order(problem, arguments, step_of):
    """Yields u after every epoch; the loss is L / N, so that a rate suits any N."""
    u = torch.zeros(problem.dimension, requires_grad=True)
    optimizer = step_of([u])
    steps = len(problem.batches(arguments.batch)) * arguments.passes
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random = torch.Generator().manual_seed(arguments.seed)
    count = len(problem.pictures)
    for _ in range(arguments.passes):
        for rows in torch.randperm(count, generator=random).split(arguments.batch):
            f0, change = problem.outputs(rows, u.detach())
            residual = f0 + change - problem.targets[rows]
            data = problem.adjoint(rows, residual / len(rows))
            u.grad = data + problem.decay / count * u.detach()
            optimizer.step()
            cosine.step()
        yield u.detach()


def sgd(problem, arguments):
    """SGD with momentum 0.9."""
    def step(weights):
        return torch.optim.SGD(weights, lr=arguments.rate, momentum=0.9)

    return first_order(problem, arguments, step)


def adam(problem, arguments):
    """Adam."""
    return first_order(problem, arguments, lambda u: torch.optim.Adam(u, lr=arguments.rate))


def cg(problem, arguments):
    """Conjugate gradients; every iteration is one pass over the data."""
    u = torch.zeros(problem.dimension)
    residual = -problem.gradient(u)[1]
    direction = residual.clone()
    norm = dot(residual, residual)
    for _ in range(arguments.passes):
        product = problem.product(direction)
        step = norm / dot(direction, product)
        u = u + step * direction
        residual = residual - step * product
        previous, norm = norm, dot(residual, residual)
        direction = residual + norm / previous * direction
        yield u


def right(problem, u, labels):
    """The share of right answers of the linearised network."""
    found = [torch.add(*problem.outputs(rows, u)).argmax(1) for rows in problem.batches(28)]
    return float((torch.cat(found) == labels).float().mean())


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="one folder a class")
    parser.add_argument("--test", type=Path, help="the same, to count right answers on")
    parser.add_argument("--backbone", choices=list(BACKBONES), default="efficientnet_lite0")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the weight files")
    parser.add_argument("--head", type=Path, help="safetensors; random when left out")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--alpha", type=float, default=15.0)
    parser.add_argument("--Lambda", type=float, required=True)
    parser.add_argument("--method", choices=["sgd", "adam", "cg"], default="sgd")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=28)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="evaluate after so many passes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    """Builds the problem, runs the method, prints evaluations."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    normal = BACKBONES[arguments.backbone]
    pictures, labels, classes = read_pictures(arguments.images, arguments.size, *normal)
    targets = arguments.alpha * nn.functional.one_hot(labels, classes).float()
    net = build(arguments, classes)
    problem = Problem(net, pictures, targets, arguments.Lambda)
    test = None
    if arguments.test:
        tested, test_labels, _ = read_pictures(arguments.test, arguments.size, *normal)
        test = Problem(net, tested, None, arguments.Lambda)
    objective, start = problem.gradient(torch.zeros(problem.dimension))
    print(json.dumps({"passes": 0, "objective": objective, "weights": problem.dimension}))
    seconds, clock = 0.0, time.perf_counter()
    steps = {"sgd": sgd, "adam": adam, "cg": cg}[arguments.method](problem, arguments)
    for passes, u in enumerate(steps, 1):
        seconds += time.perf_counter() - clock
        if passes % arguments.every == 0 or passes == arguments.passes:
            objective, gradient = problem.gradient(u)
            if not np.isfinite(objective):
                print(json.dumps({"passes": passes, "diverged": True}))
                break
            line = {
                "passes": passes,
                "seconds": round(seconds, 2),
                "objective": objective,
                "relative_gradient": (dot(gradient, gradient) / dot(start, start)) ** 0.5,
                "gap_bound": dot(gradient, gradient) / (2 * arguments.Lambda),
            }
            if test:
                line["test_right"] = right(test, u, test_labels)
            print(json.dumps(line), flush=True)
        clock = time.perf_counter()


if __name__ == "__main__":
    main()
