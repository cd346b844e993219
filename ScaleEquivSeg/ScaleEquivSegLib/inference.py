"""Running a bundle's network over a volume of any size: weights, slabs, mirroring, progress, cancelling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from .bundles import Bundle, read_weights
from .devices import bytes_for_a_slab, is_out_of_memory
from .errors import BadBundle, OutOfMemory
from .layers.arrays import tensor_of
from .layers.maps import Grid
from .networks import CLASSIFIERS, Classifier, SegmentationNetwork, UNet, build_network
from .networks.sweep import Part, Planes, Sweep, reach_of, seen_from, whole
from .networks.unet import fold_normalisation

MAPS_AT_ONCE = {"cpu": 8, "cuda": 30, "mps": 30}
"""So many maps of the widest layer are in memory while it is computed; the CPU filters them block by block."""

Checkpoint = Callable[[float], None]
"""Called with the fraction done, many times a second where possible; stops the run by raising."""


def load_network(bundle: Bundle) -> SegmentationNetwork | Classifier:
    """Build a bundle's network and load its weights, refusing any that are not the ones the card vouches for."""
    data = read_weights(bundle)
    try:
        weights = load(data)
        # Without memory first: names and shapes that are the file's ask for no more memory than the file.
        with torch.device("meta"):
            _build(bundle).load_state_dict(weights, assign=True)
        network = _build(bundle)
        network.load_state_dict(weights)
        _refuse_not_finite(weights.values())
        network.eval().requires_grad_(False)
        if isinstance(network, UNet):
            fold_normalisation(network)
        _refuse_not_finite(network.state_dict().values())  # a variance below zero shows here
    except ImportError:
        raise
    except Exception as error:  # whatever a builder raises, it comes from the card's arguments or the weights
        if is_out_of_memory(error):
            raise OutOfMemory(f"There is not enough memory to load {bundle.name}. Close other programs.") from error
        reason = " ".join(str(error).split())[:300]  # torch names every tensor that does not fit
        raise BadBundle(
            f"{bundle.folder} cannot be loaded: {reason}. Copy the bundle again, or export it again."
        ) from error
    return network


def _build(bundle: Bundle) -> SegmentationNetwork | Classifier:
    if bundle.kind == "classification":
        return CLASSIFIERS[bundle.network](bundle.arguments)
    return build_network(bundle.network, bundle.arguments)


def _refuse_not_finite(weights: Iterable[Tensor]) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in weights):
        raise ValueError("its weights are not all finite numbers")


@dataclass(frozen=True)
class WorkingImage:
    """What a network is shown of volumes (k, j, i) on one grid.

    The numbers are computed for the part asked for: a large volume is not held a second time as float32.
    """

    channels: Sequence[np.ndarray]
    shades: Sequence[Callable[[np.ndarray], np.ndarray]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z: the networks count this way; arrays are stored k, j, i."""
        k, j, i = self.channels[0].shape
        return i, j, k

    def voxels(self, part: Part) -> Tensor:
        """What the network is shown of a part, (channel, x, y, z)."""
        cut = slices(part)[::-1]
        shown = [shades(channel[cut]) for channel, shades in zip(self.channels, self.shades, strict=True)]
        return tensor_of(np.stack(shown)).permute(0, 3, 2, 1)

    def whole(self) -> Tensor:
        """All of it, (channel, x, y, z)."""
        return self.voxels(whole(self.shape)).contiguous()


@dataclass(frozen=True)
class Mirror:
    """A mirror across an axis, and for each class the one that it shows it as."""

    axis: int
    classes: tuple[int, ...]

    def image(self, image: WorkingImage) -> WorkingImage:
        """The image turned round."""
        return replace(image, channels=[np.flip(channel, 2 - self.axis) for channel in image.channels])

    def part(self, part: Part, shape: Sequence[int]) -> Part:
        """A part of the image of a shape, as the image turned round has it."""
        size = shape[self.axis]
        x, y, z = (range(size - p.stop, size - p.start) if i == self.axis else p for i, p in enumerate(part))
        return x, y, z

    def scores(self, scores: Tensor) -> Tensor:
        """Scores (class, x, y, z) of the mirror image as those of the image."""
        return scores.flip(1 + self.axis)[list(self.classes)]


def score_planes(
    network: SegmentationNetwork,
    image: WorkingImage,
    device: torch.device,
    checkpoint: Checkpoint = lambda fraction: None,
    slab: int | None = None,
    mirror: Mirror | None = None,
    part: Part | None = None,
) -> Planes:
    """The scores (class, x, y, z) of an image, computed plane by plane as they are read, along its longest axis.

    Read inside `torch.inference_mode()`. The number of planes computed at once changes how much memory it takes and not
    the scores. A network that cannot be swept sees the whole image at once. With a mirror the scores are those of the
    mean of two probabilities: of the image, and of its mirror image put back. Of a part of the image the planes are to
    be read where it has any, and they are as large as it is.
    """
    network.to(device)
    part = part or whole(image.shape)
    axis = max((a for a in range(3) if not mirror or a != mirror.axis), key=lambda a: image.shape[a])
    if not mirror:
        return _planes_of(network, image, part, axis, device, checkpoint, slab)
    halves = [0.0, 0.0]

    def half(number: int) -> Checkpoint:
        def note(fraction: float) -> None:
            halves[number] = fraction
            checkpoint(sum(halves) / 2)

        return note

    plain = _planes_of(network, image, part, axis, device, half(0), slab)
    opposite = mirror.part(part, image.shape)
    turned = _planes_of(network, mirror.image(image), opposite, axis, device, half(1), slab)
    readers = plain.reader(), turned.reader()

    def make(start: int, stop: int) -> Tensor:
        seen, mirrored = (torch.softmax(read(start, stop).float(), 0) for read in readers)
        return torch.log((seen + mirror.scores(mirrored)) / 2)

    return Planes(axis, plain.count, 1, make)


def _planes_of(
    network: SegmentationNetwork,
    image: WorkingImage,
    part: Part,
    axis: int,
    device: torch.device,
    checkpoint: Checkpoint,
    slab: int | None,
) -> Planes:
    if goes_by_slabs(network):
        step = slab or _slab_that_fits(network, image.shape, part, axis, device)
        return Sweep(network, image.voxels, image.shape, part, axis, step, device, checkpoint).scores()
    count = image.shape[axis]

    def make(start: int, stop: int) -> Tensor:
        with _Watch(network, checkpoint):
            scores = network(image.whole()[None].to(device))[0]
        x, y, z = (range(start, count) if i == axis else wanted for i, wanted in enumerate(part))
        return scores[(slice(None), *slices((x, y, z)))]

    return Planes(axis, count, count, make)


def goes_by_slabs(network: SegmentationNetwork) -> TypeGuard[UNet]:
    """Whether a few planes of an image can be computed at a time; if not, the whole image at once."""
    return isinstance(network, UNet) and network.sweepable


def slices(part: Part) -> tuple[slice, slice, slice]:
    """A part of a volume as the index of its voxels in an array (x, y, z)."""
    x, y, z = (slice(indices.start, indices.stop) for indices in part)
    return x, y, z


def _slab_that_fits(network: UNet, shape: Sequence[int], part: Part, axis: int, device: torch.device) -> int:
    """How many planes to compute at once: as many as the memory for a slab holds, in the widest layer."""
    reach = reach_of(network)
    seen = [seen_from(wanted, Grid(1.0, 0, size), reach) for wanted, size in zip(part, shape, strict=True)]
    plane = math.prod(len(indices) for i, indices in enumerate(seen) if i != axis)
    finer = max(1.0, 1 / network.axis.first) ** 3  # scales finer than a voxel have more of them
    bytes_per_plane = finer * 4 * plane * network.widest * MAPS_AT_ONCE[device.type]
    return max(1, min(64, int(bytes_for_a_slab(device) // bytes_per_plane)))


class _Watch:
    """Calls a checkpoint after each milestone of a network, so that a run on a whole image can be followed."""

    def __init__(self, network: SegmentationNetwork, checkpoint: Checkpoint) -> None:
        self._milestones = network.milestones()
        self._done = 0
        self._checkpoint = checkpoint

    def __enter__(self) -> None:
        self._hooks = [module.register_forward_hook(self._after_milestone) for module in self._milestones]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _after_milestone(self, *_: object) -> None:
        self._done += 1
        self._checkpoint(self._done / len(self._milestones))
