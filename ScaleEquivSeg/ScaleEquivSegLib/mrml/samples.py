"""The phantoms that Slicer's Sample Data offers, each with its exact labels: made on the spot, without a download."""

from __future__ import annotations

from collections.abc import Mapping

import slicer

from ..bundles import bundle_named
from ..phantom import PhantomSpec, make_phantom
from .segmentations import import_segmentation

SEED = 200_005
"""Training used the seeds from 0 and validation those from 100000."""
SAMPLES: Mapping[str, PhantomSpec] = {
    "phantom x1.0": PhantomSpec(seed=SEED),
    # The same, magnified beyond the sizes that the bundled networks were trained on (0.9 to 1.1).
    "phantom x1.7": PhantomSpec(seed=SEED, scale=1.7, size=(96, 96, 96)),
}
"""By the name that the volume gets."""


def load_sample(name: str) -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]:
    """Make a phantom and show it; its exact labels come along as a reference, and are hidden."""
    with slicer.util.WaitCursor():
        phantom = make_phantom(SAMPLES[name])
        image = phantom.channels[0]
        unique = slicer.mrmlScene.GenerateUniqueName(name)
        volume = slicer.util.addVolumeFromArray(image.array, image.geometry.ijk_to_ras, name=unique)
        exact = import_segmentation(phantom.labels, bundle_named("phantom-unet").labels, volume, f"{unique} exact")
        exact.GetDisplayNode().SetVisibility(False)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, exact
