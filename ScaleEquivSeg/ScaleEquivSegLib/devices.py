"""Where and how to compute: the devices there are, their arithmetic, and what to do when one has too little memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal, TypeVar

import torch

from .errors import OutOfMemory, UnavailableDevice

Precision = Literal["float32", "bfloat16", "float16"]

THINNER_SLABS = (8, 1)
"""Planes computed at once where memory ran out."""

CPU_SLAB_BYTES = 3 * 2**27
"""Memory that computing one slab may take on the CPU, beside what is kept between slabs; more is hardly faster."""

MEMINFO = Path("/proc/meminfo")
"""Where Linux says how much memory is free."""

WORDS_FOR_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",  # torch on Windows
    "bad_alloc",
    "ALLOC_FAILED",  # cuBLAS, cuDNN
    "Invalid buffer size",  # MPS
    "Failed to allocate memory",  # ITK
)

T = TypeVar("T")


def pick_device(name: str) -> torch.device:
    """The device to compute on: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is CUDA, else MPS, else the CPU."""
    if name == "auto":
        return next((d for d in map(torch.device, ("cuda", "mps")) if _is_available(d)), torch.device("cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnavailableDevice(f"{name!r} is not a device; say auto, cpu, cuda, cuda:1 or mps.") from error
    if not _is_available(device):
        raise UnavailableDevice(f"This machine offers no device {name!r}; choose auto or cpu.")
    return device


def devices_here() -> dict[str, str]:
    """What can be picked on this machine, by name, and what to call it: GPUs with the memory they have."""
    found = {"auto": "Automatic"}
    for number in range(torch.cuda.device_count()):
        found[f"cuda:{number}"] = f"{torch.cuda.get_device_name(number)} ({_memory_of(number)})"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found | {"cpu": "CPU"}


def _memory_of(number: int) -> str:
    try:
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:  # one that another program keeps to itself, or that is in a bad state
        return f"not usable now: {_first_line(error)}"
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def _is_available(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu"


@contextmanager
def arithmetic(device: torch.device, precision: Precision, deterministic: bool) -> Iterator[None]:
    """No gradients, and the digits asked for: float32 is float32 on every GPU, not the shorter TF32.

    Deterministic: the same device gives the same bits every time. What the process had set is restored.
    """
    shorter = nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision))
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
        torch.use_deterministic_algorithms(True)
    try:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=precision != "float32"
            ),
            shorter,
        ):
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic)


def run_where_it_fits(
    run: Callable[[torch.device, int | None], T],
    device: torch.device,
    note: Callable[[str], None],
    slabs: Sequence[int | None] = (None,),
) -> tuple[T, torch.device]:
    """Run(device, slab); out of memory, with the next slab, after the last on the CPU. Also returns where it worked.

    Each step down is told to `note`.
    """
    for where in dict.fromkeys((device, torch.device("cpu"))):
        for number, planes in enumerate(slabs):
            if number:
                note(f"{where} ran out of memory; tried again with {planes} plane(s) at a time.")
            try:
                return run(where, planes), where
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    if where.type == "cpu" or not _is_missing_there(error):
                        raise
                    note(f"{where} cannot compute this network ({_first_line(error)}).")
                    break
            _give_memory_back(where)
        if where.type != "cpu":
            note(f"The CPU computed what {where} could not.")
    thinnest = ", not even plane by plane" if slabs[-1] == 1 else ""
    raise OutOfMemory(
        f"There is not enough memory for this volume{thinnest}. Close other programs, or crop the volume."
    )


def ever_thinner(slab: int | None) -> list[int | None]:
    """A number of planes to compute at once, None for as many as fit, and what to try when memory runs out."""
    return [slab, *(thinner for thinner in THINNER_SLABS if slab is None or thinner < slab)]


def bytes_for_a_slab(device: torch.device) -> int:
    """How much memory computing one slab may take: a share of what is free, where that is known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines())
        return min(CPU_SLAB_BYTES, int(lines["MemAvailable"].split()[0]) * 1024 // 8)
    except (OSError, KeyError, ValueError):
        return CPU_SLAB_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, numpy or ITK says that memory ran out."""
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
        words in str(error) for words in WORDS_FOR_NO_MEMORY
    )


def _is_missing_there(error: BaseException) -> bool:
    """Whether an error says that a device has not got an operation, or a precision; MPS has not every one in every
    version."""
    said = ("not supported on MPS", "unsupported autocast device_type")
    return isinstance(error, NotImplementedError) or any(words in str(error) for words in said)


def _give_memory_back(device: torch.device) -> None:
    """Return what torch keeps of a GPU's memory, once the failed run's tensors are gone."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
