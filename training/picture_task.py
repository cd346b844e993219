"""The Lightning module of classifiers: loss and validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ScaleEquivSegLib.networks import Classifier

from .config import FitConfig
from .picture_metrics import figures
from .task import NetworkTask


class ClassificationTask(NetworkTask):
    """Trains a classifier by cross-entropy, all pictures counting alike whatever their class."""

    def __init__(self, network: Classifier, fit: FitConfig, classes: Sequence[str]) -> None:
        super().__init__(network, fit)
        self.classes = tuple(classes)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.network(batch["image"]).float(), batch["label"])
        return self.with_load_balance(loss)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        scores = self.network(batch["image"]).cpu().double()
        self.seen.append((torch.softmax(scores, 1), batch["label"].cpu()))

    def on_validation_epoch_end(self) -> None:
        probabilities, labels = (torch.cat(parts).numpy() for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        for name, value in figures(probabilities, labels, self.classes).items():
            self.log(f"val_{name}", value, prog_bar=name == "auc.mean")
