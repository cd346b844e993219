"""The phantoms that Slicer's Sample Data offers, each with its exact labels: made on the spot, without a download."""

from __future__ import annotations

from collections.abc import Mapping

import slicer

from ..bundles import bundle_named
from ..phantom import CHANNELS, PhantomSpec, make_phantom
from ..volume import Volume
from .segmentations import import_segmentation

SEED = 200_005
"""Training used the seeds from 0 and validation those from 100000."""
SAMPLES: Mapping[str, PhantomSpec] = {
    "phantom x1.0": PhantomSpec(seed=SEED),
    # The same, magnified beyond the sizes that the bundled networks were trained on (0.9 to 1.1).
    "phantom x1.7": PhantomSpec(seed=SEED, scale=1.7, size=(96, 96, 96)),
    "phantom 4 channels": PhantomSpec(seed=SEED, channels=4),
}
"""By the name that the volume gets; of several channels, each has its own."""


def load_sample(name: str) -> tuple[slicer.vtkMRMLNode, ...]:
    """Make a phantom and show it: a volume of each channel, and last its exact labels as a hidden reference."""
    with slicer.util.WaitCursor():
        phantom = make_phantom(SAMPLES[name])
        several = len(phantom.channels) > 1
        names = [f"phantom {channel}" for channel in CHANNELS] if several else [name]
        volumes = [_add_volume(*each) for each in zip(phantom.channels, names, strict=True)]
        whole = name if several else volumes[0].GetName()
        exact = import_segmentation(phantom.labels, bundle_named("phantom-unet").labels, volumes[0], f"{whole} exact")
        exact.GetDisplayNode().SetVisibility(False)
        slicer.util.setSliceViewerLayers(background=volumes[0], fit=True)
    return (*volumes, exact)


def _add_volume(image: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    unique = slicer.mrmlScene.GenerateUniqueName(name)
    return slicer.util.addVolumeFromArray(image.array, image.geometry.ijk_to_ras, name=unique)
