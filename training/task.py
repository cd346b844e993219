"""The Lightning module: loss, schedule, random windows of the scale axis, validation Dice."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from torch import Tensor

from ScaleEquivSegLib.layers.resample import ScaleAxis
from ScaleEquivSegLib.networks import UNet

from .config import FitConfig


class SegmentationTask(L.LightningModule):
    """Trains a U-Net on labelled crops and measures mean Dice over the classes on whole volumes."""

    def __init__(self, network: UNet, fit: FitConfig) -> None:
        super().__init__()
        self.network = network
        self.fit_config = fit
        self.whole_axis = network.axis
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
        self.dice = DiceMetric(include_background=False, reduction="mean_batch")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.network.axis = self._random_window()
        scores = self.network(batch["image"].as_subclass(Tensor))
        self.network.axis = self.whole_axis
        loss: Tensor = self.loss(scores, batch["label"].as_subclass(Tensor))
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def _random_window(self) -> ScaleAxis:
        """A run of neighbouring scales: the network learns to be silent at scales that do not fit, at every offset."""
        count = self.fit_config.scale_window or self.whole_axis.count
        start = int(torch.randint(self.whole_axis.count - count + 1, ()))
        return self.whole_axis.window(start, count)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        scores = self.network(batch["image"].as_subclass(Tensor))
        classes = scores.shape[1]
        predicted = one_hot(scores.argmax(1, keepdim=True), classes)
        self.dice(predicted, one_hot(batch["label"].as_subclass(Tensor), classes))

    def on_validation_epoch_end(self) -> None:
        per_class = self.dice.aggregate()
        self.dice.reset()
        assert isinstance(per_class, Tensor)
        for value, dice in enumerate(per_class.tolist(), start=1):
            self.log(f"val_dice_{value}", dice)
        self.log("val_dice", per_class.mean(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        fit = self.fit_config
        optimizer = torch.optim.AdamW(self.network.parameters(), fit.learning_rate, weight_decay=fit.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, fit.learning_rate, total_steps=fit.steps, pct_start=0.15
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
