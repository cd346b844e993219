"""What Slicer's Sample Data offers: phantoms with their exact labels, made on the spot without a download, and a real
hippocampus with labels drawn by hand, fetched from its public address when the user asks for it."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..bundles import bundle_named
from ..phantom import CHANNELS, PhantomSpec, make_phantom
from ..volume import Volume, read_volume
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


HIPPOCAMPUS = "hippocampus (download)"
TASK = "Task04_Hippocampus"
ADDRESS = f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{TASK}.tar"
CHECKSUM = "MD5:9d24dba78a72977dbd1d2e110310f31b"
"""Of the Medical Segmentation Decathlon, as MONAI knows it."""
CASE = "hippocampus_289"
"""The bundled networks were not trained on it."""


def load_sample(name: str) -> tuple[slicer.vtkMRMLNode, ...]:
    """Make a phantom and show it: a volume of each channel, and last its exact labels as a hidden reference.

    The hippocampus is fetched instead; nothing is shown where that fails.
    """
    with slicer.util.WaitCursor():
        if name == HIPPOCAMPUS:
            return _load_hippocampus()
        phantom = make_phantom(SAMPLES[name])
        several = len(phantom.channels) > 1
        names = [f"phantom {channel}" for channel in CHANNELS] if several else [name]
        volumes = [_add_volume(*each) for each in zip(phantom.channels, names, strict=True)]
        whole = name if several else volumes[0].GetName()
        return (*volumes, _shown_with(volumes[0], phantom.labels, "phantom-unet", f"{whole} exact"))


def _load_hippocampus() -> tuple[slicer.vtkMRMLNode, ...]:
    """Of the archive, which Slicer keeps in its cache, one case."""
    archive = Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()) / f"{TASK}.tar"
    if not slicer.util.downloadFile(ADDRESS, str(archive), CHECKSUM):
        archive.unlink(missing_ok=True)  # a part of it, or something else
        slicer.util.errorDisplay(
            _("{address} could not be downloaded. Check the network and try again.").format(address=ADDRESS)
        )
        return ()
    image, labels = (_of_archive(archive, part) for part in ("imagesTr", "labelsTr"))
    volume = _add_volume(image, CASE)
    drawn = Volume(labels.array.astype(np.uint8), labels.geometry)
    return volume, _shown_with(volume, drawn, "hippocampus-unet", f"{volume.GetName()} reference")


def _of_archive(archive: Path, part: str) -> Volume:
    with TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        member = next(each for each in tar if each.name.endswith(f"{part}/{CASE}.nii.gz"))
        content = tar.extractfile(member)
        assert content is not None
        path = Path(folder) / f"{CASE}.nii.gz"
        path.write_bytes(content.read())
        return read_volume(path)


def _shown_with(
    volume: slicer.vtkMRMLScalarVolumeNode, labels: Volume, bundle: str, name: str
) -> slicer.vtkMRMLSegmentationNode:
    """Show a volume; its labels, named as those of a bundle, stay hidden."""
    reference = import_segmentation(labels, bundle_named(bundle).labels, volume, name)
    reference.GetDisplayNode().SetVisibility(False)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return reference


def _add_volume(image: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    unique = slicer.mrmlScene.GenerateUniqueName(name)
    return slicer.util.addVolumeFromArray(image.array, image.geometry.ijk_to_ras, name=unique)
