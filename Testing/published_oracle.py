"""The published layers once more, slowly: sums over voxels in numpy, straight from the formulas."""

from __future__ import annotations

import math
import statistics
from itertools import product

import numpy as np

HERMITE = (
    lambda t: 1.0,
    lambda t: t,
    lambda t: t**2 - 1,
    lambda t: t**3 - 3 * t,
    lambda t: t**4 - 6 * t**2 + 3,
)


def multi_orders() -> list[tuple[int, int, int]]:
    """n + m + l <= 4, the last order slowest; the first 27."""
    found = [(total, n, m) for total, n, m in product(range(5), repeat=3) if total + n + m <= 4]
    return [(n, m, l) for l, m, n in found][:27]


def single_orders() -> list[tuple[int, int, int]]:
    """Three orders per axis, counted in base three."""
    return [(i % 3, i // 3 % 3, i // 9) for i in range(27)]


def basis(orders: list[tuple[int, int, int]], sigmas: tuple[float, ...], radii: tuple[int, ...]) -> np.ndarray:
    """(function, scale, 5, 5, 5), zero where an offset along any axis is beyond the scale's radius."""
    values = np.zeros((len(orders), len(sigmas), 5, 5, 5))
    for f, (n, m, l) in enumerate(orders):
        for s, (sigma, radius) in enumerate(zip(sigmas, radii, strict=True)):
            for x, y, z in product(range(-radius, radius + 1), repeat=3):
                polynomial = HERMITE[n](x / sigma) * HERMITE[m](y / sigma) * HERMITE[l](z / sigma)
                gauss = math.exp(-(x * x + y * y + z * z) / (2 * sigma * sigma))
                values[f, s, x + 2, y + 2, z + 2] = polynomial * gauss / sigma**3
        values[f] /= math.sqrt(sum(v * v for v in values[f, 0].ravel()))
    return values


def lifted(
    image: np.ndarray, weight: np.ndarray, bias: np.ndarray, functions: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Image (channel, x, y, z) -> (out, scale, x, y, z)."""
    scales = functions.shape[1]
    out = []
    for o, s in product(range(len(weight)), range(scales)):
        filters = [_filter(w, functions, s) for w in weight[o]]
        out.append(bias[o] + sum(_correlated(f, k, stride, padding) for f, k in zip(image, filters, strict=True)))
    return np.array(out).reshape(len(weight), scales, *out[0].shape)


def convolved(
    maps: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    functions: np.ndarray,
    stride: int,
    padding: int,
    transposed: bool = False,
) -> np.ndarray:
    """Maps (channel, scale, x, y, z) -> (out, scale, x, y, z)."""
    move = _spread if transposed else _correlated
    scales = maps.shape[1]
    out = []
    for o, s in product(range(len(weight)), range(scales)):
        total = bias[o]
        for c, j in product(range(weight.shape[1]), range(weight.shape[2])):
            neighbour = maps[c, min(s + j, scales - 1)]
            total = total + move(neighbour, _filter(weight[o, c, j], functions, s), stride, padding)
        out.append(total)
    return np.array(out).reshape(len(weight), scales, *out[0].shape)


def normalised(maps: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Maps (batch, channel, scale, x, y, z)."""
    result = np.empty_like(maps)
    for c in range(maps.shape[1]):
        values = maps[:, c].ravel().tolist()
        mean, variance = statistics.fmean(values), statistics.variance(values)  # over n - 1
        result[:, c] = (maps[:, c] - mean) / math.sqrt(variance + 1e-5) * weight[c] + bias[c]
    return result


def _filter(weights: np.ndarray, functions: np.ndarray, scale: int) -> np.ndarray:
    return sum(w * f for w, f in zip(weights, functions[:, scale], strict=True))


def _correlated(values: np.ndarray, kernel: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """sum_y values(stride x - padding + y) kernel(y), values being zero outside."""
    shape = [(n + 2 * padding - 5) // stride + 1 for n in values.shape]
    result = np.zeros(shape)
    for x in np.ndindex(*shape):
        for y in np.ndindex(5, 5, 5):
            at = tuple(stride * i - padding + j for i, j in zip(x, y, strict=True))
            if all(0 <= a < n for a, n in zip(at, values.shape, strict=True)):
                result[x] += values[at] * kernel[y]
    return result


def _spread(values: np.ndarray, kernel: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Every values(x) adds its multiple of the kernel from voxel stride x - padding on."""
    shape = [stride * (n - 1) + 5 - 2 * padding for n in values.shape]
    wide = np.zeros([n + 2 * padding for n in shape])
    for x in np.ndindex(*values.shape):
        i, j, k = (stride * a for a in x)
        wide[i : i + 5, j : j + 5, k : k + 5] += values[x] * kernel
    inner = tuple(slice(padding, padding + n) for n in shape)
    return wide[inner]
