"""EfficientNet-Lite0 fine-tuned the ordinary way, in PyTorch, and kronfluence's analysis of it.

The recipe: a new head of zeros, all weights trained by SGD on the cross entropy (momentum 0.9, weight decay, a cosine
rate, the head's ten times the rest's), the running statistics of BatchNorm kept, no augmentation.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures"))
import nets  # noqa: E402

NORMAL = ([127.0] * 3, [128.0] * 3)


def padded(net, size):
    """Plain convolutions after plain padding instead of timm's "SAME" ones, whose padding depends on the side: the
    peers know `nn.Conv2d` only. The same function at side `size`."""
    sides, hooks = {}, []
    for module in (m for m in net.modules() if isinstance(m, Conv2dSame)):
        hooks.append(module.register_forward_pre_hook(lambda m, inputs: sides.update({m: inputs[0].shape[-1]})))
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        before = net(images)
    for hook in hooks:
        hook.remove()
    for parent in list(net.modules()):
        for name, old in list(parent.named_children()):
            if old in sides:
                kernel, stride, side = old.kernel_size[0], old.stride[0], sides[old]
                total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
                pad = (total // 2, total - total // 2) * 2
                shape = (old.in_channels, old.out_channels, kernel, stride)
                new = nn.Conv2d(*shape, groups=old.groups, bias=old.bias is not None)
                new.load_state_dict(old.state_dict())
                setattr(parent, name, nn.Sequential(nn.ZeroPad2d(pad), new))
    with torch.no_grad():
        assert torch.allclose(before, net(images), atol=1e-4)
    return net


def lite0(weights, classes, size):
    """The pre-trained network with a new head of zeros."""
    net, _ = nets.real("efficientnet_lite0", weights)
    net = padded(net, size)
    net.classifier = nn.Linear(net.classifier.in_features, classes)
    nn.init.zeros_(net.classifier.weight)
    nn.init.zeros_(net.classifier.bias)
    return net.to(memory_format=torch.channels_last)


def batched(net, pictures, size=64):
    """Outputs, batch by batch."""
    with torch.no_grad():
        return torch.cat([net(batch) for batch in pictures.split(size)])


def pooled(net, pictures):
    """The inputs of the head."""
    head, net.classifier = net.classifier, nn.Identity()
    features = batched(net, pictures)
    net.classifier = head
    return features


def train(net, pictures, labels, epochs, rate, seed, decay=1e-4, batch=32, weights=None):
    """SGD; the seed orders the pictures, `weights` are those of the losses."""
    net.eval()
    head = list(net.classifier.parameters())
    body = [w for name, w in net.named_parameters() if not name.startswith("classifier.")]
    groups = [{"params": body}, {"params": head, "lr": 10 * rate}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=decay)
    steps = epochs * -(-len(pictures) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(pictures), generator=random).split(batch):
            optimizer.zero_grad()
            losses = cross_entropy(net(pictures[rows]), labels[rows], reduction="none")
            (losses if weights is None else losses * weights[rows]).mean().backward()
            optimizer.step()
            schedule.step()
    return net


def margins(logits, labels):
    """log(p / (1 - p)), p being the probability of the class `labels`: TRAK's output function."""
    chosen = nn.functional.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(chosen, -torch.inf).logsumexp(1)
    return logits[chosen] - others


class Classification(Task):
    """Kronfluence's description. The measurement is minus the margin, so that a positive score is of a picture whose
    absence lowers the margin."""

    def compute_train_loss(self, batch, model, sample=False):
        images, labels = batch
        logits = model(images)
        if sample:
            with torch.no_grad():
                labels = torch.multinomial(logits.softmax(-1), 1).flatten()
        return cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch, model):
        images, labels = batch
        return -margins(model(images), labels).sum()


class Clock:
    """Seconds of the processor since the last question."""

    def __init__(self):
        self.last = time.process_time()

    def lap(self):
        """Seconds, and starts again."""
        now = time.process_time()
        seconds, self.last = now - self.last, now
        return seconds


class Ekfac:
    """Kronfluence with EKFAC factors fitted to a training set. Its files are deleted with it."""

    def __init__(self, net, pictures, labels, batch=64):
        self.folder = tempfile.TemporaryDirectory()
        task = Classification()
        self.data = torch.utils.data.TensorDataset(pictures.contiguous(), labels)
        self.batch = batch
        self.analyzer = Analyzer(
            "peer", prepare_model(net, task), task, cpu=True, output_dir=self.folder.name, disable_tqdm=True,
            log_level=40,
        )  # fmt: skip
        self.analyzer.fit_all_factors(
            "ekfac", self.data, per_device_batch_size=batch, factor_args=FactorArguments(strategy="ekfac"),
            overwrite_output_dir=True,
        )  # fmt: skip

    def self_scores(self, damping=None):
        """g' H^-1 g of every training picture; `None`: a tenth of the mean eigenvalue."""
        self.analyzer.compute_self_scores(
            "self", "ekfac", self.data, per_device_train_batch_size=self.batch,
            score_args=ScoreArguments(damping_factor=damping),
            overwrite_output_dir=True,
        )  # fmt: skip
        return self.analyzer.load_self_scores("self")["all_modules"].flatten()

    def pairs(self, pictures, labels, damping=None):
        """By query and training picture, the scores."""
        queries = torch.utils.data.TensorDataset(pictures.contiguous(), labels)
        self.analyzer.compute_pairwise_scores(
            "pairs", "ekfac", queries, self.data, per_device_query_batch_size=self.batch,
            per_device_train_batch_size=self.batch,
            score_args=ScoreArguments(damping_factor=damping),
            overwrite_output_dir=True,
        )  # fmt: skip
        return self.analyzer.load_pairwise_scores("pairs")["all_modules"]
