"""The default `se_unet` against MONAI's U-Net: time and peak memory of the same work."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet as MonaiUNet
from torch import Tensor, nn

from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.networks.unet import parameter_count

from ..equivariance_report import NETWORKS
from .case import Case, Conditions, Figures, Work, timed
from .memory import can_measure_peak, in_own_process, peak_gib

Build = Callable[[], nn.Module]
Prepare = Callable[[nn.Module, int], Work]
"""Makes the work from a network and the size of a cubic image; the network is on its device."""


def se_unet() -> nn.Module:
    """The default network of the equivariance report, with random weights."""
    return build_network("se_unet", {"in_channels": 1, "classes": 3, **NETWORKS["se_unet"]})


def monai_unet() -> nn.Module:
    """With the stages and channels of ours, seven convolutions in a row to our eight, the first with stride 2."""
    network: nn.Module = MonaiUNet(3, 1, 3, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)
    return network


def forward(network: nn.Module, size: int) -> Work:
    """A pass over one image, as at inference."""
    network.eval()
    image, _ = _example(network, size)

    def work() -> None:
        with torch.inference_mode():
            network(image)

    return work


def step(network: nn.Module, size: int) -> Work:
    """One step of training on one image: forward, loss, backward, optimiser."""
    network.train()
    image, labels = _example(network, size)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = torch.optim.AdamW(network.parameters())

    def work() -> None:
        optimizer.zero_grad()
        loss(network(image), labels).backward()
        optimizer.step()

    return work


def _example(network: nn.Module, size: int) -> tuple[Tensor, Tensor]:
    """A random image and random labels of it, (batch, channel, x, y, z)."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, size, size, size)
    device = next(network.parameters()).device
    return image.to(device), torch.randint(3, image.shape).to(device)


def side_by_side(prepare: Prepare, name: str, conditions: Conditions) -> Figures:
    """Both networks' time, peak memory, each in a process of its own, and size."""
    device, size = conditions.device, conditions.networks
    ours, other = (timed(prepare(build().to(device), size), device) for build in (se_unet, monai_unet))
    case = Case(name, ours, other)
    figures = case.ratios(case.pairs(conditions.repeats))
    figures[f"{name}.parameter_ratio"] = parameter_count(se_unet()) / parameter_count(monai_unet())
    if can_measure_peak(device):
        ours_gib, other_gib = (in_own_process(peak, build, prepare, size, device) for build in (se_unet, monai_unet))
        figures[f"{name}.peak_ratio"] = ours_gib / other_gib
    else:
        print(f"no {name}.peak_ratio: peak memory is measured on Linux or on CUDA only", file=sys.stderr)
    return figures


def peak(build: Build, prepare: Prepare, size: int, device: torch.device) -> float:
    """How much memory the work takes, GiB, in a process that has done it on a small image before."""
    network = build().to(device)
    prepare(network, 16)()
    return peak_gib(prepare(network, size), device)
