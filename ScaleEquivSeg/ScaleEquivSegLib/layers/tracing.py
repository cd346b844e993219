"""Whether torch is tracing a graph of what is computed, which must then not depend on what was kept or measured."""

from __future__ import annotations

import torch

# Before 2.3 torch had no public way to say; these networks are compiled with newer versions only.
is_compiling = getattr(torch.compiler, "is_compiling", lambda: False)
