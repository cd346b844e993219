"""A procedural sample with exact labels: a curved two-part structure in T1-like tissue, among objects that resemble it.

The structure is a tube that begins in a round head, both bright, wrapped in a thin dark rim. Each of the other objects
has either its intensity or its rim, at any size.

Everything but the noise is a function of the position in the world, so a seed gives the same object on every grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .volume import Geometry, Volume, make_geometry

HEAD, BODY = 1, 2

CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
_CONTRAST = {
    # intensity of dark tissue, bright tissue, rim, head, body
    "T1": (0.30, 0.55, 0.05, 1.00, 0.80),
    "T1ce": (0.30, 0.50, 0.05, 1.10, 0.75),
    "T2": (0.75, 0.50, 1.00, 0.05, 0.25),
    "FLAIR": (0.30, 0.50, 0.05, 0.80, 1.05),
}
_RIM_MM = 1.8

Shape = Callable[[np.ndarray], np.ndarray]
"""Signed distance in mm of positions (..., 3) to a surface, negative inside; approximate away from the surface."""


@dataclass(frozen=True)
class PhantomSpec:
    """What to generate. `scale` magnifies everything but the grid and the noise about the centre of the volume."""

    seed: int = 0
    size: tuple[int, int, int] = (64, 64, 64)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    direction: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    scale: float = 1.0
    channels: int = 1
    noise: float = 0.04

    def geometry(self) -> Geometry:
        """The voxel grid, centred on the origin of the world."""
        return make_geometry(self.size, self.spacing, self.direction, (0, 0, 0))


@dataclass(frozen=True)
class Phantom:
    """The images, one per channel, and the exact labels: 0 elsewhere, 1 head, 2 body."""

    channels: tuple[Volume, ...]
    labels: Volume


def make_phantom(spec: PhantomSpec) -> Phantom:
    """Generate one phantom."""
    geometry = spec.geometry()
    anatomy = _Anatomy(np.random.default_rng(spec.seed))
    # Positions in the anatomy's own millimetres, (k, j, i, 3).
    positions = _world_positions(geometry) / spec.scale
    head, body = anatomy.head(positions), anatomy.body(positions)
    inside = np.minimum(head, body) < 0
    labels = np.where(inside, np.where(head <= body, HEAD, BODY), 0).astype(np.uint8)

    noise = np.random.default_rng((spec.seed, 1))
    channels = []
    for name in CHANNELS[: spec.channels]:
        image = anatomy.image(name, positions, head, body)
        image = image + spec.noise * noise.standard_normal(image.shape)
        channels.append(Volume(np.round(1000 * np.maximum(image, 0)).astype(np.int16), geometry))
    return Phantom(tuple(channels), Volume(labels, geometry))


def _world_positions(geometry: Geometry) -> np.ndarray:
    k, j, i = np.indices(geometry.shape, dtype=np.float64)
    return geometry.to_ras(np.stack([i, j, k], -1))


@dataclass(frozen=True)
class _Distractor:
    """Has either the intensity of a part of the structure or its rim, never both."""

    shape: Shape
    has_rim: bool
    like_head: bool


class _Anatomy:
    """The random choices of one phantom, as functions of position."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.pose = _random_rotation(rng)
        self.centre = rng.uniform(-6, 6, 3)
        self._shape_structure(rng)
        self.texture = _random_waves(rng, count=24, wavelengths=(9, 40))
        self.bias = rng.uniform(-0.004, 0.004, 3)
        self.distractors = [_Distractor(shape, *rng.integers(2, size=2)) for shape in self._free_shapes(rng, 16)]

    def _shape_structure(self, rng: np.random.Generator) -> None:
        """A tube bent along an arc and slightly out of its plane, its first part swollen into a head."""
        turn = np.linspace(0, rng.uniform(1.5, 2.1), 49)
        bend = rng.uniform(17, 21)
        line = np.stack([bend * np.sin(turn), bend * (1 - np.cos(turn)), rng.uniform(-4, 4) * np.sin(2 * turn)], -1)
        line -= line.mean(0)
        self.line = line @ self.pose.T + self.centre
        along = np.linspace(0, 1, len(line))
        self.body_radius = rng.uniform(5.0, 6.0) * (1 - 0.25 * along)
        self.head_radius = rng.uniform(8.0, 9.0)

    def head(self, positions: np.ndarray) -> np.ndarray:
        return np.linalg.norm(positions - self.line[0], axis=-1) - self.head_radius

    def body(self, positions: np.ndarray) -> np.ndarray:
        distance = np.full(positions.shape[:-1], np.inf)
        for centre, radius in zip(self.line, self.body_radius, strict=True):
            np.minimum(distance, np.linalg.norm(positions - centre, axis=-1) - radius, out=distance)
        return distance

    def _free_shapes(self, rng: np.random.Generator, count: int) -> list[Shape]:
        """Other shapes of any size, clear of the structure."""
        placed: list[Shape] = []
        while len(placed) < count:
            size = float(np.exp(rng.uniform(np.log(2.5), np.log(11))))
            centre = rng.uniform(-30, 30, 3)
            nearest = min(float(self.head(centre)), float(self.body(centre[None])[0]))
            if nearest > 1.3 * size + 2 * _RIM_MM:
                kind = _DISTRACTOR_SHAPES[rng.integers(len(_DISTRACTOR_SHAPES))]
                placed.append(kind(centre, _random_rotation(rng), size))
        return placed

    def image(self, channel: str, positions: np.ndarray, head: np.ndarray, body: np.ndarray) -> np.ndarray:
        dark, bright, rim, head_value, body_value = _CONTRAST[channel]
        tissue = 1 / (1 + np.exp(-3 * self.texture(positions)))
        image = dark + (bright - dark) * tissue
        for distractor in self.distractors:
            distance = distractor.shape(positions)
            if distractor.has_rim:
                image = _paint(image, distance - _RIM_MM, rim)
                image = _paint(image, distance, bright)
            else:
                image = _paint(image, distance, head_value if distractor.like_head else body_value)
        image = _paint(image, np.minimum(head, body) - _RIM_MM, rim)
        image = _paint(image, body, body_value)
        # The head begins where it is nearer than the body, so both meet in a sharp, partial-volumed edge.
        image = _paint(image, np.maximum(head, head - body), head_value)
        return image * np.exp(positions @ self.bias)


def _paint(image: np.ndarray, distance: np.ndarray, value: float) -> np.ndarray:
    """Fill the inside of a shape, a voxel cut by its surface in proportion to the part of it that lies inside."""
    width = sum(np.abs(np.gradient(distance, axis=a)) for a in range(3) if distance.shape[a] > 1)
    inside = np.clip(0.5 - distance / np.maximum(width, 1e-6), 0, 1)
    return image + inside * (value - image)


def _random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def _random_waves(rng: np.random.Generator, count: int, wavelengths: tuple[float, float]) -> Shape:
    """A smooth random field of unit variance: plane waves of random direction, wavelength and phase."""
    shortest, longest = np.log(wavelengths)
    length = np.exp(rng.uniform(shortest, longest, count))
    direction = rng.standard_normal((count, 3))
    vectors = 2 * np.pi * direction / np.linalg.norm(direction, axis=1, keepdims=True) / length[:, None]
    phases = rng.uniform(0, 2 * np.pi, count)

    def field(positions: np.ndarray) -> np.ndarray:
        total = np.zeros(positions.shape[:-1])
        for vector, phase in zip(vectors, phases, strict=True):
            total += np.cos(positions @ vector + phase)
        return total * np.sqrt(2 / count)

    return field


def _ellipsoid(centre: np.ndarray, pose: np.ndarray, size: float) -> Shape:
    axes = size * np.array([1.0, 0.75, 0.55])

    def distance(positions: np.ndarray) -> np.ndarray:
        local = (positions - centre) @ pose
        reach = np.linalg.norm(local / axes, axis=-1)
        slope = np.linalg.norm(local / axes**2, axis=-1)
        return reach * (reach - 1) / np.maximum(slope, 1e-9)

    return distance


def _ball(centre: np.ndarray, pose: np.ndarray, size: float) -> Shape:
    return lambda positions: np.linalg.norm(positions - centre, axis=-1) - 0.8 * size


def _rod(centre: np.ndarray, pose: np.ndarray, size: float) -> Shape:
    def distance(positions: np.ndarray) -> np.ndarray:
        local = (positions - centre) @ pose
        beyond = np.maximum(np.abs(local[..., 0]) - 1.2 * size, 0)
        return np.sqrt(beyond**2 + local[..., 1] ** 2 + local[..., 2] ** 2) - 0.35 * size

    return distance


def _block(centre: np.ndarray, pose: np.ndarray, size: float) -> Shape:
    half = size * np.array([0.8, 0.6, 0.6])

    def distance(positions: np.ndarray) -> np.ndarray:
        outside = np.abs((positions - centre) @ pose) - half
        return np.linalg.norm(np.maximum(outside, 0), axis=-1) + np.minimum(outside.max(-1), 0)

    return distance


_DISTRACTOR_SHAPES = (_ellipsoid, _ball, _rod, _block)
