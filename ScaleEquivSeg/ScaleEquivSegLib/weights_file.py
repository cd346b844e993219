"""A bundle's weights as a file: whether its bytes are those a card vouches for, and a safetensors file at all.
Found out without torch, so that a list of bundles is true before anything is loaded."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from .card import strict_json

HEADER_BYTES_AT_MOST = 2**24
BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8}
"""The kinds of numbers that weights are made of; whole ones are counters of batches."""


def check_weights(data: bytes, sha256: str) -> None:
    """Refuse bytes that are not the ones expected, or that are no weights; a ValueError says why."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"it has sha256 {found[:12]}..., the card says {sha256[:12]}...; the file is damaged or foreign"
        )
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, HEADER_BYTES_AT_MOST):
        raise ValueError("it is no safetensors file, or the end of it is missing")
    header = strict_json(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header must be a JSON object")
    header.pop("__metadata__", None)
    end = 0
    for start, stop in sorted(_place(name, entry) for name, entry in header.items()):
        if start != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = stop
    if end != len(data) - 8 - length:
        raise ValueError(f"its header describes {end} bytes of tensors, it has {len(data) - 8 - length}")


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor's numbers start and stop."""
    try:
        size, shape, (start, stop) = BYTES_OF[entry["dtype"]], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (start, stop, *shape))
        if whole and stop - start == size * math.prod(shape):
            return start, stop
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"its header does not say properly where {ascii(name)[:60]} is")
