"""Small volume files damaged at random, by number: `python damaged_volumes.py FOLDER FIRST COUNT` reads each and prints
one line of JSON per case. It runs as a process of its own, with little memory, so that a crash is a result, too."""

from __future__ import annotations

import gzip
import json
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from dicom_series import write_series
from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.volume import Volume, make_geometry, read_volume, write_volume

SEED = 20_240_611
MEMORY = 3 * 2**30
FORMATS = ("raw.nrrd", "packed.nrrd", "raw.nii", "packed.nii.gz", "raw.mha", "packed.mha", "dicom")
WORDS = (
    b"0",
    b"-1",
    b"nan",
    b"inf",
    b"-inf",
    b"1e300",
    b"1e-300",
    b"4294967297",
    b"99999999999999999999",
    b"",
    b"\xff",
)
NUMBERS = (0, -1, float("nan"), float("inf"), 1e30, -1e30, 1e-40)
Random = np.random.Generator


def original() -> Volume:
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
    geometry = make_geometry((9, 8, 7), (0.7, 0.8, 2.5), turn * np.sign(np.linalg.det(turn)), (10, -20, 30))
    values = np.random.default_rng(6).integers(-1000, 1000, geometry.shape)
    return Volume(values.astype(np.int16), geometry)


def write_originals(folder: Path) -> None:
    for name in FORMATS[:-1]:
        write_volume(original(), folder / name, {"Note": "a value"}, compress=name.startswith("packed"))
    write_series(original(), folder / "dicom")


def cut(data: bytes, random: Random) -> bytes:
    # As often a little as a lot: checksums stand at the end.
    lost = random.integers(1, min(len(data), 12 if random.random() < 0.3 else len(data)) + 1)
    return data[: len(data) - int(lost)]


def flip_bits(data: bytes, random: Random) -> bytes:
    damaged = bytearray(data)
    within = len(data) if random.random() < 0.5 else min(len(data), 600)
    for at in random.integers(0, within, random.integers(1, 9)):
        damaged[at] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def zero_block(data: bytes, random: Random) -> bytes:
    start, length = (int(n) for n in random.integers(0, len(data), 2))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def append(data: bytes, random: Random) -> bytes:
    return data + random.bytes(int(random.integers(1, 3000)))


def change_header(data: bytes, random: Random) -> bytes:
    """Put an absurd number for one of a text header's, or of a NIfTI header's."""
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(change_header(gzip.decompress(data), random))
    if data[344:347] == b"n+1":
        kind, value = random.choice(["<f4", "<i2"]), NUMBERS[random.integers(len(NUMBERS))]
        with np.errstate(invalid="ignore", over="ignore"):
            number = np.array(value if kind == "<f4" else random.integers(-32768, 32768)).astype(kind).tobytes()
        at = int(random.integers(0, 340 // len(number))) * len(number)
        return data[:at] + number + data[at + len(number) :]
    numbers = [found.span() for found in re.finditer(rb"-?[0-9]+(\.[0-9]+)?", data[:1400])]
    start, end = numbers[random.integers(len(numbers))]
    word = WORDS[random.integers(len(WORDS))]
    if data[128:132] == b"DICM":  # values keep their length there
        word = word.ljust(end - start)[: end - start]
    return data[:start] + word + data[end:]


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (cut, flip_bits, zero_block, append, change_header)


def damage(folder: Path, number: int) -> tuple[str, str, Path]:
    """Damage a file by the number of the case; says which format and how, and what to read."""
    random = np.random.default_rng((SEED, number))
    name = FORMATS[number % len(FORMATS)]
    how = DAMAGES[random.integers(len(DAMAGES))]
    source, target = folder / name, folder / "damaged" / name
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    target.parent.mkdir()
    victim = target
    if source.is_dir():
        shutil.copytree(source, target)
        victim = sorted(target.iterdir())[random.integers(len(list(target.iterdir())))]
        source = source / victim.name
    victim.write_bytes(how(source.read_bytes(), random))
    return name, how.__name__, target


def complaint(path: Path, how: str) -> str:
    """What is wrong about how a damaged file is read: nothing, if it is refused or may pass."""
    try:
        volume = read_volume(path)
    except SegmentationError:
        return ""
    wanted = original()
    if how == "cut":
        return "was read although cut short"
    if volume.array.shape != wanted.array.shape:
        return f"was read with shape {volume.array.shape}"
    if not np.isfinite(volume.geometry.ijk_to_ras).all() or not volume.geometry.voxel_ml > 0:
        return f"was read with geometry {volume.geometry.ijk_to_ras.tolist()}"
    packed = path.name.startswith("packed") and how in ("zero_block", "append")
    if packed and not np.array_equal(volume.array, wanted.array):
        return "was read with other values although they have a checksum"
    return ""


def outcomes(folder: Path, first: int, count: int) -> Iterator[dict[str, object]]:
    for number in range(first, first + count):
        name, how, path = damage(folder, number)
        case = {"case": number, "seed": SEED, "format": name, "damage": how}
        print(json.dumps(case), end=" ", flush=True)  # the last words, if reading kills the process
        try:
            yield {**case, "complaint": complaint(path, how)}
        except BaseException as error:
            yield {**case, "complaint": f"raised {type(error).__name__}: {error}"}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for outcome in outcomes(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        print("->", json.dumps(outcome), flush=True)
