"""A volume is an array with its place in the world; reading, writing, re-orienting and resampling it with SimpleITK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import UnreadableVolume, UnsuitableVolume, UnwritableOutput
from .headers import is_sheared, sheared
from .names import is_utf8, itk_name
from .reading import checked_reader, ijk_to_lps, last_line, read_file, read_picture
from .whole_files import in_one_piece

ENDINGS = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha")

NIFTI_LABELS = "1002"
"""The intent code of a NIfTI file of labels."""
FEWEST_LABELLED_VOXELS = 4096
MOST_LABELS = 16

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""ITK and its files count x to the left and y to the back; Slicer counts to the right and to the front."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in the world: its shape (k, j, i) as numpy stores it and the matrix IJK to RAS, in millimetres."""

    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along i, j, k."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors of i, j, k in RAS, as columns."""
        return self.ijk_to_ras[:3, :3] / self.spacing

    @property
    def size(self) -> np.ndarray:
        """Number of voxels along i, j, k."""
        return np.array(self.shape[::-1])

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000

    def agrees_with(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and no corner differs by more than a tolerance."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners() - other.corners()).max() <= tolerance_mm)

    def corners(self) -> np.ndarray:
        """The centres of the eight corner voxels in RAS, (8, 3)."""
        last = self.size - 1
        index = np.array([[i, j, k] for k in (0, last[2]) for j in (0, last[1]) for i in (0, last[0])])
        return self.to_ras(index)

    def to_ras(self, ijk: np.ndarray) -> np.ndarray:
        """World positions of indices (..., 3) in i, j, k order."""
        return ijk @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values (k, j, i) and the grid they lie on."""

    array: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"array {self.array.shape} does not fit the grid {self.geometry.shape}")


def make_geometry(size: tuple[int, int, int], spacing: object, direction: object, center: object) -> Geometry:
    """A grid of `size` voxels (i, j, k) around a centre in RAS; direction has their unit vectors as columns."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(direction, float) * np.asarray(spacing, float)
    matrix[:3, 3] = np.asarray(center, float) - matrix[:3, :3] @ ((np.array(size) - 1) / 2)
    return Geometry((size[2], size[1], size[0]), matrix)


def read_volume(path: Path) -> Volume:
    """Read a scalar volume from NRRD, NIfTI or MetaImage, or from a folder that holds one DICOM series.

    Whatever comes back is what the file holds: a damaged or ambiguous file is an error.
    """
    return from_sitk(read_file(Path(path)))


def read_image(path: Path) -> Volume:
    """Read a volume to be segmented: as `read_volume`, but not a file that says of itself that it holds labels."""
    image = read_file(Path(path))
    intent = image.GetMetaData("intent_code") if image.HasMetaDataKey("intent_code") else ""
    if image.HasMetaDataKey("Segment0_ID") or intent == NIFTI_LABELS:
        raise UnsuitableVolume(f"{path} is a segmentation; pick the image on which it was drawn.")
    return from_sitk(image)


def read_slice(path: Path) -> Volume:
    """Read a picture to be classified: as `read_image`, or a PNG file of grey values."""
    return from_sitk(read_picture(Path(path))) if Path(path).suffix.lower() == ".png" else read_image(path)


def looks_like_labels(array: np.ndarray) -> bool:
    """Whether voxels can hardly be anything but labels: many of them, and few different whole numbers from 0."""
    if array.size < FEWEST_LABELLED_VOXELS:
        return False
    known: set[float] = set()
    for plane in (array[len(array) // 2], *array):  # the middle of an image shows at once that it is one
        others = plane[~np.isin(plane, sorted(known))]
        known.update(np.unique(others).tolist())
        if len(known) > MOST_LABELS or min(known) < 0 or not all(float(value).is_integer() for value in known):
            return False
    return len(known) > 1  # the same value everywhere is an empty image


def ending_of(path: Path) -> str:
    """The ending of a file's name that says its format; one that can hold a volume with its geometry in one piece."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    if not ending:
        raise UnwritableOutput(f"{path} must end in one of {', '.join(ENDINGS)}.")
    if not is_utf8(str(path)):
        raise UnwritableOutput(f"{str(path)!a} is a name that is not UTF-8; give another name.")
    return path.name[-len(ending) :]


def write_volume(volume: Volume, path: Path, header: Mapping[str, str] | None = None, compress: bool = True) -> None:
    """Write a volume so that the file is either complete or not there; header entries become NRRD keys."""
    path = Path(path)
    ending_of(path)
    if is_sheared(volume.geometry.direction):
        raise sheared(path)
    image = to_sitk(volume)
    for key, value in (header or {}).items():
        image.SetMetaData(key, _on_one_line(value))
    with in_one_piece(path) as unfinished:
        try:
            sitk.WriteImage(image, itk_name(unfinished), compress)
            # On a full disk the writer of NIfTI stops without a word.
            checked_reader(unfinished)
        except (RuntimeError, UnreadableVolume) as error:
            raise UnwritableOutput(f"{path} cannot be written: {last_line(error)}") from error


def _on_one_line(text: str) -> str:
    """Text that fits into a header of lines of UTF-8."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).encode("utf-8", "replace").decode("utf-8")


def from_sitk(image: sitk.Image) -> Volume:
    """A 3D SimpleITK image as a Volume."""
    matrix = ijk_to_lps(image)
    matrix[:3] = LPS_TO_RAS @ matrix[:3]
    array = sitk.GetArrayFromImage(image)
    return Volume(array, Geometry(array.shape, matrix))


def to_sitk(volume: Volume) -> sitk.Image:
    """A Volume as a SimpleITK image."""
    image = sitk.GetImageFromArray(volume.array)
    origin, spacing, direction = _placement(volume.geometry)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def _placement(geometry: Geometry) -> tuple[list[float], list[float], list[float]]:
    """Origin, spacing and direction as SimpleITK has them."""
    origin = LPS_TO_RAS @ geometry.ijk_to_ras[:3, 3]
    return origin.tolist(), geometry.spacing.tolist(), (LPS_TO_RAS @ geometry.direction).ravel().tolist()


@dataclass(frozen=True)
class AxisOrder:
    """Which old axis becomes each new one of i, j, k, and whether it is turned round."""

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @staticmethod
    def towards(direction: np.ndarray, orientation: str) -> AxisOrder:
        """The order in which i, j, k point as closely as possible to three letters of RLAPSI."""
        to_ras = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
        return AxisOrder.like(direction, np.array([to_ras[letter] for letter in orientation]).T)

    @staticmethod
    def like(direction: np.ndarray, wanted: np.ndarray) -> AxisOrder:
        """The order in which i, j, k point as closely as possible as those of another direction."""
        along = wanted.T @ direction  # cosines of each wanted axis with each there is
        axes = max(permutations(range(3)), key=lambda order: np.abs(along[range(3), order]).sum())
        i, j, k = axes
        turned = along[range(3), axes] < 0
        return AxisOrder((i, j, k), (bool(turned[0]), bool(turned[1]), bool(turned[2])))

    def apply(self, volume: Volume) -> Volume:
        """The same voxels in the new order; no value changes, an oblique volume stays oblique."""
        array = volume.array.transpose([2 - axis for axis in self.axes[::-1]])
        array = np.flip(array, self._flipped_array_axes())
        matrix = volume.geometry.ijk_to_ras.copy()
        for new, old in enumerate(self.axes):
            column = volume.geometry.ijk_to_ras[:3, old]
            matrix[:3, new] = -column if self.flipped[new] else column
            if self.flipped[new]:
                matrix[:3, 3] += column * (volume.geometry.size[old] - 1)
        return Volume(array, Geometry(array.shape, matrix))

    def _flipped_array_axes(self) -> tuple[int, ...]:
        return tuple(2 - new for new in range(3) if self.flipped[new])

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Put an array (k, j, i) in the new order back into the old one."""
        array = np.flip(array, self._flipped_array_axes())
        forward = [2 - axis for axis in self.axes[::-1]]
        return np.ascontiguousarray(array.transpose(np.argsort(forward)))


def working_geometry(geometry: Geometry, spacing: np.ndarray) -> Geometry:
    """The grid over the same box with another spacing; the same grid if it has that spacing already."""
    if np.allclose(geometry.spacing, spacing, rtol=1e-3):
        return geometry
    extent = geometry.size * geometry.spacing
    size = np.maximum(1, np.round(extent / spacing).astype(int))
    center = geometry.to_ras((geometry.size - 1) / 2)
    return make_geometry((int(size[0]), int(size[1]), int(size[2])), spacing, geometry.direction, center)


def resample(volume: Volume, target: Geometry) -> Volume:
    """Interpolate linearly onto another grid, blurred beforehand along axes that lose resolution, ends repeated."""
    if volume.geometry.agrees_with(target, tolerance_mm=1e-6):
        return volume
    image = to_sitk(Volume(_smoothed(volume, target), volume.geometry))
    origin, spacing, direction = _placement(target)
    try:
        image = sitk.Resample(
            image,
            target.size.tolist(),
            sitk.Transform(),
            sitk.sitkLinear,
            origin,
            spacing,
            direction,
            0.0,
            sitk.sitkFloat32,
            useNearestNeighborExtrapolator=True,
        )
    except RuntimeError as error:
        if "Failed to allocate memory" in str(error):
            raise MemoryError(f"no memory for {' x '.join(map(str, target.size))} voxels") from error
        raise
    return Volume(sitk.GetArrayFromImage(image), target)


def interpolation_weights(source: Geometry, target: Geometry) -> list[np.ndarray]:
    """Per axis i, j, k the matrix (target voxels, source voxels) by which `resample` interpolates between two grids
    with the same axes."""
    to_source = np.linalg.inv(source.ijk_to_ras) @ target.ijk_to_ras
    if np.abs(to_source[:3, :3] - np.diag(np.diag(to_source)[:3])).max() > 1e-6:
        raise ValueError("the grids do not have the same axes")
    blurs = _blur_against_aliasing(source, target)
    return [
        _axis_weights(np.arange(wanted) * to_source[axis, axis] + to_source[axis, 3], size, blurs[axis])
        for axis, (size, wanted) in enumerate(zip(source.size, target.size, strict=True))
    ]


def interpolation_reach(source: Geometry, target: Geometry) -> int:
    """How many source voxels away from its own place, along any axis, `resample` looks for a voxel of the target."""
    return 1 + _gauss_reach(float(_blur_against_aliasing(source, target).max()))


def _axis_weights(positions: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Rows that interpolate a line at positions after a blur, its ends repeated outwards."""
    below = np.floor(positions)
    fraction = positions - below
    offsets, gauss = _gauss(sigma) if sigma > 0 else (np.zeros(1, int), np.ones(1))
    matrix = np.zeros((len(positions), size))
    rows = np.arange(len(positions))
    for tap, share in ((below, 1 - fraction), (below + 1, fraction)):
        centre = np.clip(tap, 0, size - 1).astype(int)
        for offset, weight in zip(offsets, gauss, strict=True):
            np.add.at(matrix, (rows, np.clip(centre + offset, 0, size - 1)), share * weight)
    return matrix


def _gauss(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    reach = _gauss_reach(sigma)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return offsets, weights / weights.sum()


def _gauss_reach(sigma: float) -> int:
    return int(np.ceil(3 * sigma))


def _blur_against_aliasing(source: Geometry, target: Geometry) -> np.ndarray:
    """Per source axis the width, in its voxels, of the Gaussian that brings its resolution down to the target's."""
    along = np.abs(source.direction.T @ target.direction)
    wanted = target.spacing[along.argmax(axis=1)] / source.spacing
    return np.where(wanted > 1.05, 0.4 * np.sqrt(np.maximum(0, wanted**2 - 1)), 0)


def _smoothed(volume: Volume, target: Geometry) -> np.ndarray:
    """Values that may be interpolated onto another grid: blurred along axes that lose resolution, as they are if none
    does. Large volumes are here several times, so that as little as possible is copied."""
    sigmas = _blur_against_aliasing(volume.geometry, target)
    if not sigmas.any() and volume.array.dtype in (np.uint8, np.int16, np.uint16):
        return volume.array
    array = volume.array.astype(np.float32, copy=bool(sigmas.any()))
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            _blur(array, 2 - axis, sigma)
    return array


def _blur(array: np.ndarray, axis: int, sigma: float) -> None:
    """Blur in place along an axis, a plane at a time."""
    offsets, weights = _gauss(sigma)
    weights, reach = weights.astype(np.float32), len(offsets) // 2
    across = 0 if axis else 1
    along = max(0, axis - 1)  # in a plane
    length = array.shape[axis]
    for plane in np.moveaxis(array, across, 0):
        padded = np.pad(plane, [(reach, reach) if a == along else (0, 0) for a in range(2)], mode="edge")
        plane[...] = 0
        for start, weight in enumerate(weights):
            plane += weight * padded.take(range(start, start + length), along)
