"""The images of labelled cases as volumes: a file for each channel, or a frame of a 4D file for each.
The engine's own reader refuses 4D files, as nobody would know which frame was meant."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ScaleEquivSegLib.errors import UnreadableVolume, UnsuitableVolume
from ScaleEquivSegLib.headers import check_placement, check_whole, read_header
from ScaleEquivSegLib.reading import ijk_to_lps, last_line
from ScaleEquivSegLib.volume import LPS_TO_RAS, Geometry, Volume, from_sitk, read_image, read_volume

from .cases import LabelledCase


def read_channels(case: LabelledCase) -> list[Volume]:
    """The images of a case in the order of its channels."""
    if not case.frames:
        return [read_image(path) for path in case.images]
    files = {path: _whole_series(path) for path in case.images}
    pairs = zip(case.images, case.frames, strict=True)
    return [from_sitk(files[path][:, :, :, frame]) for path, frame in pairs]


def grid_of(case: LabelledCase, channel: int) -> Geometry:
    """Where the header of a channel's image places its voxels; these are not read, and may be damaged."""
    path = case.images[channel]
    if path.is_dir():  # DICOM, where every slice has a header
        return read_volume(path).geometry
    reader = _reader(path)
    size = [int(n) for n in reader.GetSize()]
    if case.frames and (len(size) != 4 or size[3] <= case.frames[channel]):
        raise UnsuitableVolume(
            f"{path} has {' x '.join(map(str, size))} voxels; frame {case.frames[channel]} is wanted."
        )
    if len(size) < 3:
        raise UnsuitableVolume(f"{path} has {len(size)} dimensions; a volume has three.")
    matrix = ijk_to_lps(reader)
    matrix[:3] = LPS_TO_RAS @ matrix[:3]
    return Geometry((size[2], size[1], size[0]), matrix)


def _whole_series(path: Path) -> sitk.Image:
    """A 4D NIfTI file, with the same checks as the engine has for a volume."""
    reader = _reader(path)
    header = read_header(path, reader.GetImageIO())
    if reader.GetDimension() != 4 or reader.GetNumberOfComponents() != 1 or header.voxel_bytes is None:
        raise UnsuitableVolume(f"{path} is no series of scalar volumes in NIfTI.")
    size = np.array(reader.GetSize())
    check_whole(path, header, math.prod(size.tolist()), header.voxel_bytes)
    check_placement(path, header, size[:3], ijk_to_lps(reader))
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise UnreadableVolume(f"{path} cannot be read as an image: {last_line(error)}") from error


def _reader(path: Path) -> sitk.ImageFileReader:
    """A reader that has seen the header."""
    reader = sitk.ImageFileReader()
    try:
        reader.SetImageIO(sitk.ImageFileReader.GetImageIOFromFileName(os.fspath(path)))
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableVolume(f"{path} cannot be read as an image: {last_line(error)}") from error
    return reader
