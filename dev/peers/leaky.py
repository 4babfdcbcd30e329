"""Graph surgery that gives ReLU and ReLU6 a slope of 0.01 where they had none."""

import torch
from torch import nn

SLOPE = 0.01


class LeakyReLU6(nn.Module):
    """ReLU6 that keeps a part of the slope below 0 and above 6."""

    def forward(self, x):
        return torch.lerp(x.clamp(0.0, 6.0), x, SLOPE)


def make_leaky(module):
    """Replaces the activation modules inside `module`, and returns it."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, LeakyReLU6())
        elif isinstance(child, nn.ReLU):
            setattr(module, name, nn.LeakyReLU(SLOPE, inplace=child.inplace))
        else:
            make_leaky(child)
    return module
