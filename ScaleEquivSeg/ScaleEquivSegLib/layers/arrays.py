"""Numbers of numpy as torch sees them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def tensor_of(array: np.ndarray) -> Tensor:
    """An array as a tensor, which shares its memory if its elements lie in order.

    By the buffer protocol: torch before 2.3, and Intel Macs have nothing newer, does not work with numpy 2.
    """
    array = np.ascontiguousarray(array)
    return torch.frombuffer(array, dtype=getattr(torch, array.dtype.name)).reshape(array.shape)
