"""Shared by all tests: the stand-in host, started before anything else can import Qt."""

from __future__ import annotations

import os

import slicerhost

# One process at a time computes on a test machine; more threads than cores only slow it down.
os.environ.setdefault("OMP_NUM_THREADS", "2")
slicerhost.start()
