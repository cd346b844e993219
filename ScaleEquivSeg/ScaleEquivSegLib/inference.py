"""Running a bundle's network over a volume of any size: loading weights, devices, exact tiles, progress, cancelling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .bundles import Bundle, file_sha256
from .errors import BadBundle, UnavailableDevice
from .networks import SegmentationNetwork, UNet, build_network
from .networks.unet import fold_normalisation

DEFAULT_TILE = 128
"""Edge in voxels of the part of a volume that is scored at once."""

Box = tuple[slice, slice, slice]
Checkpoint = Callable[[float], None]
"""Called with the fraction done, many times a second where possible; stops the run by raising."""


def load_network(bundle: Bundle) -> SegmentationNetwork:
    """Build a bundle's network and load its weights, refusing any that are not the ones the card vouches for."""
    found = file_sha256(bundle.weights)
    if found != bundle.sha256:
        raise BadBundle(
            f"{bundle.weights} has sha256 {found[:12]}..., its card says {bundle.sha256[:12]}...; "
            "the file is damaged or foreign. Copy the bundle again from where it came."
        )
    try:
        network = build_network(bundle.network, bundle.arguments)
        network.load_state_dict(load_file(bundle.weights))
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise BadBundle(f"{bundle.folder} cannot be loaded: {error}") from error
    network.eval().requires_grad_(False)
    if isinstance(network, UNet):
        fold_normalisation(network)
    return network


def pick_device(name: str) -> torch.device:
    """The device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnavailableDevice(f"{name!r} is not a device; say auto, cpu, cuda, cuda:1 or mps.") from error
    if not _is_available(device):
        raise UnavailableDevice(f"This machine offers no device {name!r}; choose auto or cpu.")
    return device


def _is_available(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


@dataclass(frozen=True)
class Tile:
    """A core whose scores are kept, and the crop around it that they depend on."""

    core: Box
    crop: Box

    @property
    def origin(self) -> tuple[int, int, int]:
        x, y, z = self.crop
        return x.start, y.start, z.start

    @property
    def core_in_crop(self) -> Box:
        x, y, z = (slice(c.start - o.start, c.stop - o.start) for c, o in zip(self.core, self.crop, strict=True))
        return x, y, z


def tiles(shape: tuple[int, int, int], edge: int, halo: int | None) -> Iterator[Tile]:
    """Cut a volume into cores of at most `edge` voxels, each with a halo as far as the volume reaches.

    An axis that a tile with its halo would cover anyway stays whole: cutting it would cost time and save no memory. So
    does every axis where no halo is enough.
    """
    if halo is None:
        halo = max(shape)
    edges = [size if size <= edge + 2 * halo else edge for size in shape]
    for start in product(*(range(0, size, step) for size, step in zip(shape, edges, strict=True))):
        cores = [slice(s, min(s + e, size)) for s, e, size in zip(start, edges, shape, strict=True)]
        crops = [slice(max(0, c.start - halo), min(size, c.stop + halo)) for c, size in zip(cores, shape, strict=True)]
        yield Tile((cores[0], cores[1], cores[2]), (crops[0], crops[1], crops[2]))


@torch.inference_mode()
def class_scores(
    network: SegmentationNetwork,
    image: np.ndarray,
    device: torch.device,
    checkpoint: Checkpoint,
    tile: int = DEFAULT_TILE,
) -> np.ndarray:
    """Score every voxel of an image (channel, x, y, z); returns (class, x, y, z).

    Every crop is scored where it lies in the volume and sees as far as the network does, so the tile size changes how
    much is computed at once and not the result.
    """
    network.to(device)
    source = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    shape = (image.shape[1], image.shape[2], image.shape[3])
    plan = list(tiles(shape, tile, network.halo))
    scores: np.ndarray | None = None
    with _Watch(network, len(plan), checkpoint):
        for part in plan:
            crop = source[(slice(None), *part.crop)][None].to(device)
            result = network(crop, part.origin)[0][(slice(None), *part.core_in_crop)].float().cpu().numpy()
            if scores is None:
                scores = np.empty((len(result), *shape), np.float32)
            scores[(slice(None), *part.core)] = result
    if scores is None:
        raise ValueError(f"an image of shape {shape} has no voxels")
    return scores


class _Watch:
    """Calls a checkpoint after each milestone of a network, so that a single large tile can be followed and stopped."""

    def __init__(self, network: SegmentationNetwork, runs: int, checkpoint: Checkpoint) -> None:
        self._milestones = network.milestones()
        self._total = runs * len(self._milestones)
        self._done = 0
        self._checkpoint = checkpoint

    def __enter__(self) -> None:
        self._hooks = [module.register_forward_hook(self._after_milestone) for module in self._milestones]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _after_milestone(self, *_: object) -> Tensor | None:
        self._done += 1
        self._checkpoint(self._done / self._total)
        return None
