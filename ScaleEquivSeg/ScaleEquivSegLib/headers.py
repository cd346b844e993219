"""What the header of a NRRD, MetaImage or NIfTI file states: where its voxels lie in the world, and in which bytes.
ITK puts zeros and ones for what it cannot read, without a word; what the header states shows whether it did."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import UnreadableVolume, UnsuitableVolume

MOST_SHEAR = 1e-3
"""Headers give axes as rounded numbers: the cosine of two, and a unit vector's length, may be so far off."""
MOST_SHIFT = 0.01
"""So far, in voxels, a corner may lie from where the header says: NIfTI has two float32 ways of saying it."""

_CHUNK = 2**16
_TIGHTEST = 1040
"""Deflate packs no more bytes than this into one."""
_GZIP = b"\x1f\x8b"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Header:
    """Where a file says its voxels are."""

    placements: tuple[np.ndarray, ...]
    """Matrices IJK to LPS in mm; NIfTI may state two."""
    data: Path
    start: int
    """Where in the data file the voxels begin, or the compressed stream."""
    packed: bool
    before: int = 0
    """Bytes of the unpacked stream before the voxels."""
    voxel_bytes: int | None = None
    """None if it is that of the voxels as ITK reads them."""


def read_header(path: Path, reader: str) -> Header:
    """The header of a file that an ITK reader has recognised as its own."""
    try:
        header = HEADERS[reader](path)
    except (ArithmeticError, EOFError, LookupError, ValueError, gzip.BadGzipFile, struct.error, zlib.error) as error:
        raise UnreadableVolume(f"{path} has a damaged header ({error}). Copy or export it again.") from error
    for placement in header.placements:
        if not np.isfinite(placement).all() or not np.linalg.norm(placement[:3, :3], axis=0).all():
            raise UnreadableVolume(f"{path} places its voxels by numbers that are zero or none. Export it again.")
    if header.placements and all(is_sheared(placement[:3, :3]) for placement in header.placements):
        raise sheared(path)
    return header


def is_sheared(axes: np.ndarray) -> bool:
    """Whether the columns of a matrix are not perpendicular."""
    unit = axes / np.linalg.norm(axes, axis=0)
    return not np.abs(unit.T @ unit - np.eye(3)).max() <= MOST_SHEAR


def sheared(path: Path) -> UnsuitableVolume:
    """What to say of a volume whose voxels are no boxes."""
    return UnsuitableVolume(
        f"{path} has axes that are not perpendicular (a sheared or singular orientation); resample it onto a grid "
        "with perpendicular axes first, for example with Slicer's module Resample Scalar/Vector/DWI Volume."
    )


def check_placement(path: Path, header: Header, size: np.ndarray, found: np.ndarray) -> None:
    """Refuse a matrix IJK to LPS, as read, that is none of those the header states."""
    corners = np.array([[i, j, k, 1] for i in (0, size[0]) for j in (0, size[1]) for k in (0, size[2])])
    allowed = MOST_SHIFT * np.linalg.norm(found[:3, :3], axis=0).min()
    shifts = [np.abs((corners @ (found - stated).T)[:, :3]).max() for stated in header.placements]
    if not any(shift <= allowed for shift in shifts):
        raise UnreadableVolume(
            f"{path} contradicts itself about where its voxels lie, or says it in a way that cannot be read; "
            "load it in Slicer, check spacing and orientation, and save it as .nrrd."
        )


# The voxels' bytes


def check_whole(path: Path, header: Header, voxels: int, voxel_bytes: int) -> None:
    """Refuse a file whose voxels are not exactly as many bytes as its header announces, or fail their checksum.

    Compressed ones are unpacked for this, beside ITK's own unpacking, which looks at no checksum.
    """
    wanted = voxels * (header.voxel_bytes or voxel_bytes)
    if not header.data.is_file():
        raise UnreadableVolume(f"{path} keeps its voxels in {header.data.name}, which is not beside it.")
    stored = header.data.stat().st_size - header.start
    if header.packed and wanted > _TIGHTEST * stored:
        raise UnreadableVolume(f"{path} is damaged: {wanted} bytes of voxels cannot be packed into {stored}.")
    found = _unpacked_length(path, header) - header.before if header.packed else stored
    if found != wanted:
        raise UnreadableVolume(
            f"{path} is damaged: its header announces {wanted} bytes of voxels and there are {found}. "
            "Copy or export it again."
        )


def _unpacked_length(path: Path, header: Header) -> int:
    try:
        with header.data.open("rb") as stream:
            stream.seek(header.start)
            return sum(_unpacked_lengths(stream))
    except (EOFError, zlib.error) as error:
        raise UnreadableVolume(f"{path} is damaged ({error}). Copy or export it again.") from error


def _unpacked_lengths(stream: BinaryIO) -> Iterator[int]:
    """How many bytes each piece of a zlib or gzip stream unpacks to; a gzip file may have several members."""
    unpacker, piece = zlib.decompressobj(47), b""
    while True:
        piece = piece or stream.read(_CHUNK)
        if not piece:
            raise EOFError("it ends too early")
        yield len(unpacker.decompress(piece))
        piece = b""
        if unpacker.eof:
            piece = unpacker.unused_data + stream.read(_CHUNK)
            if piece[:2] != _GZIP:
                return
            unpacker = zlib.decompressobj(47)


# The formats


def _nrrd(path: Path) -> Header:
    with path.open("rb") as stream:
        fields = {}
        for line in iter(stream.readline, b""):
            if not line.strip():
                break
            key, _, value = line.decode("utf-8", "replace").partition(":")
            fields[key.replace(" ", "")] = value.strip()
        start = stream.tell()
    encoding = fields["encoding"]
    if encoding not in ("raw", "gz", "gzip") or {"lineskip", "byteskip"} & set(fields):
        raise _unusual(path)
    data = _data_file(path, fields.get("datafile"))
    return Header(_nrrd_placements(path, fields), data, start if data == path else 0, encoding != "raw")


def _nrrd_placements(path: Path, fields: Mapping[str, str]) -> tuple[np.ndarray, ...]:
    directions = [_numbers(vector)[:3] for vector in re.findall(r"\(([^)]*)\)", fields.get("spacedirections", ""))]
    if directions:
        origin = _numbers(fields.get("spaceorigin", "0,0,0").strip("()"))
        space = fields.get("space", "").lower()
        to_lps = np.diag([-1.0 if space.startswith(("right", "ra")) else 1, 1, 1, 1]) @ np.diag(
            [1, -1.0 if "anterior" in space or space[1:2] == "a" else 1, 1, 1]
        )
        return (to_lps @ _matrix(np.array(directions[:3]).T, origin),)
    if "spacings" not in fields:
        raise UnsuitableVolume(f"{path} does not say how large its voxels are. Export it again with its spacing.")
    return (_matrix(np.diag(_numbers(fields["spacings"])[:3]), [0, 0, 0]),)


def _meta_image(path: Path) -> Header:
    fields = {}
    with path.open("rb") as stream:
        while "ElementDataFile" not in fields:
            key, separator, value = stream.readline().decode("utf-8", "replace").partition("=")
            if not separator:
                raise ValueError(f"{key.strip()!r} is not of the form 'key = value'")
            fields[key.strip()] = value.strip()
        start = stream.tell()
    if fields.get("BinaryData", "True") != "True" or fields.get("HeaderSize", "0") != "0":
        raise _unusual(path)
    spacing = fields.get("ElementSpacing") or fields.get("ElementSize")
    if not spacing:
        raise UnsuitableVolume(f"{path} does not say how large its voxels are. Export it again with its spacing.")
    dimensions = int(fields["NDims"])
    axes = next((fields[key] for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields), None)
    origin = next((fields[key] for key in ("Offset", "Position", "Origin") if key in fields), "0 0 0")
    direction = np.reshape(_numbers(axes), (dimensions, dimensions)).T if axes else np.eye(3)
    data = _data_file(path, None if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"])
    return Header(
        (_matrix(direction[:3, :3] * _numbers(spacing)[:3], _numbers(origin)),),
        data,
        start if data == path else 0,
        fields.get("CompressedData", "False") == "True",
    )


def _data_file(path: Path, name: str | None) -> Path:
    """The file with the voxels, which may be the header's own."""
    if name is None:
        return path
    if "%" in name or name.upper().startswith("LIST"):
        raise _unusual(path)
    return path.parent / name


def _unusual(path: Path) -> UnsuitableVolume:
    return UnsuitableVolume(
        f"{path} stores its voxels in an unusual way (as text, in several files, or with bytes to skip); "
        "load it in Slicer and save it as one .nrrd file."
    )


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.replace(",", " ").split()]


def _matrix(axes: np.ndarray, origin: Sequence[float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, origin[:3]
    return matrix


_NIFTI_VOXEL_BYTES = {2: 1, 256: 1, 4: 2, 512: 2, 8: 4, 768: 4, 16: 4, 64: 8, 1024: 8, 1280: 8}
_NIFTI_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
_NIFTI_HEADER_BYTES = 348


def _nifti(path: Path) -> Header:
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
        stream.seek(0)
        unpacked = gzip.GzipFile(fileobj=stream) if packed else stream
        header = unpacked.read(_NIFTI_HEADER_BYTES)
    if header[344:347] != b"n+1":
        raise _unusual(path)
    order = "<" if header[:4] == struct.pack("<i", _NIFTI_HEADER_BYTES) else ">"

    def field(offset: int, kind: str) -> tuple[float, ...]:
        return struct.unpack_from(order + kind, header, offset)

    if not np.isfinite(field(112, "2f")).all():
        raise ValueError("its values are to be multiplied by a number that is none")
    before = int(field(108, "f")[0])
    if before < _NIFTI_HEADER_BYTES:
        raise ValueError(f"its voxels begin at byte {before}")
    placements = _nifti_placements(field)
    voxel_bytes = _NIFTI_VOXEL_BYTES.get(int(field(70, "h")[0]))
    return Header(placements, path, 0 if packed else before, packed, before, voxel_bytes)


def _nifti_placements(field: Callable[[int, str], tuple[float, ...]]) -> tuple[np.ndarray, ...]:
    """By rows and by quaternion, where the header has them, or by voxel sizes alone, which ITK takes along LPS."""
    mm = _NIFTI_MM.get(int(field(123, "B")[0]) & 7, 1.0)
    handed, *spacing = field(76, "4f")
    by_quaternion, by_rows = field(252, "2h")
    placements = []
    if by_rows > 0:
        placements.append(np.array([*field(280, "12f"), 0, 0, 0, 1]).reshape(4, 4))
    if by_quaternion > 0:
        axes = _rotation(field(256, "3f")) * spacing * [1, 1, -1 if handed < 0 else 1]
        placements.append(_matrix(axes, field(268, "3f")))
    if placements:
        scale = np.diag([mm, mm, mm, 1])
        return tuple(_RAS_TO_LPS @ scale @ placement for placement in placements)
    return (_matrix(np.diag(spacing) * mm, (0, 0, 0)),)


def _rotation(quaternion: Sequence[float]) -> np.ndarray:
    b, c, d = quaternion
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


HEADERS: dict[str, Callable[[Path], Header]] = {
    "NrrdImageIO": _nrrd,
    "MetaImageIO": _meta_image,
    "NiftiImageIO": _nifti,
}
