"""The Lightning modules: what all trainings share, and of segmentation loss, random windows of the scale axis, Dice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from ScaleEquivSegLib.comparison import dice
from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.inference import WorkingImage, score_planes
from ScaleEquivSegLib.layers.maps import ScaleAxis
from ScaleEquivSegLib.layers.mixture import dynamic_layers, load_balance, set_temperature
from ScaleEquivSegLib.networks import SegmentationNetwork, UNet
from ScaleEquivSegLib.segmentation import PLANES_AT_ONCE

from .config import FitConfig

LEAST_SCALE = 2.0**-10
"""What float16 scales the loss by before it is hopeless: it begins with 65536 and is halved by each step that is left
out."""
NEVER = 1e4
"""The score, less than any other, of a class that cannot be."""


def random_seed(*of: int) -> int:
    """A seed for what has these numbers: near ones have nothing in common."""
    return int(np.random.SeedSequence(of).generate_state(1)[0])


def annealed(fit: FitConfig, step: int) -> float:
    """The temperature of dynamic layers at a step: at first soft, so that every kernel learns, then as it will be."""
    progress = min(1.0, 2 * step / fit.steps)
    return fit.first_temperature + (1 - fit.first_temperature) * progress


def random_window(whole: ScaleAxis, fit: FitConfig, step: int) -> ScaleAxis:
    """A run of neighbouring scales for a step: the network learns to be silent at scales that do not fit, wherever
    among the others they are. A network of one scale has no choice."""
    count = min(fit.scale_window or whole.count, whole.count)
    random = np.random.default_rng((fit.seed, 2, step))
    return whole.window(int(random.integers(whole.count - count + 1)), count)


class NetworkTask(L.LightningModule):
    """What all trainings have in common: the seed of each step, the mixtures of dynamic layers, the optimiser."""

    def __init__(self, network: nn.Module, fit: FitConfig) -> None:
        super().__init__()
        self.network = network
        self.fit_config = fit

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Begin the epoch after the one that the checkpoint ended.

        Left to itself Lightning takes that epoch, of which no validation is recorded, for unfinished, and trains on
        another batch of it.
        """
        loop = checkpoint["loops"]["fit_loop"]
        finished = checkpoint["epoch"] + 1
        loop["epoch_progress"] = {when: dict.fromkeys(of, finished) for when, of in loop["epoch_progress"].items()}
        batches = loop["epoch_loop.batch_progress"]
        batches |= {"current": dict.fromkeys(batches["current"], 0), "is_last_batch": False}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout too follows from the seed and the step, so that a run that was stopped drops what it would have.
        torch.manual_seed(random_seed(self.fit_config.seed, 3, self.global_step, self.global_rank))
        set_temperature(self.network, annealed(self.fit_config, self.global_step))

    def on_before_backward(self, loss: Tensor) -> None:
        if scaler := getattr(self.trainer.precision_plugin, "scaler", None):
            # In float16 numbers overflow now and then, and such a step is left out: not one after the other, though.
            if scaler.get_scale() < LEAST_SCALE:
                raise SegmentationError(
                    f"At step {self.global_step} of float16 the last steps had no finite gradients; set a lower "
                    "fit.learning_rate, or compute.precision=bf16-mixed or 32-true."
                )
            return
        # The same in every process: none may wait for one that has stopped.
        of_all = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean")
        assert isinstance(of_all, Tensor)
        if not of_all.isfinite():
            raise SegmentationError(
                f"The loss is {of_all.item()} at step {self.global_step}, and cannot be trained on; set a lower "
                "fit.learning_rate, or compute.precision=32-true if it is another."
            )

    def with_load_balance(self, loss: Tensor) -> Tensor:
        """What a step is to lower: the loss, noted, and how unevenly dynamic layers use their kernels."""
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        if not dynamic_layers(self.network):
            return loss
        unevenness = load_balance(self.network)
        self.log("load_balance", unevenness)
        return loss + self.fit_config.load_balance * unevenness

    def configure_optimizers(self) -> Any:
        fit = self.fit_config
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[fit.optimizer]
        optimizer = kind(self.network.parameters(), fit.learning_rate, weight_decay=fit.weight_decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule(optimizer, fit), "interval": "step"}}


class SegmentationTask(NetworkTask):
    """Trains a U-Net on labelled crops and measures mean Dice over the classes on whole volumes."""

    network: SegmentationNetwork

    def __init__(self, network: SegmentationNetwork, fit: FitConfig) -> None:
        super().__init__(network, fit)
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
        self.cases: list[list[float]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        with self._random_window():
            image, label = self._within_budget(batch["image"]), self._within_budget(batch["label"])
            scores = self.network(image)
        # Whatever the precision of the network: sums over many voxels need float32.
        loss: Tensor = self.loss(without_unlabelled(scores.float(), batch["unlabelled"]), label)
        return self.with_load_balance(loss)

    @contextmanager
    def _random_window(self) -> Iterator[None]:
        if not isinstance(self.network, UNet):  # the published network's axis is part of its filters
            yield
            return
        whole = self.network.axis
        self.network.axis = random_window(whole, self.fit_config, self.global_step)
        yield
        self.network.axis = whole

    def _within_budget(self, maps: Tensor) -> Tensor:
        """The middle of a crop if scales finer than a voxel are trained on, so that no step takes longer for them."""
        if not isinstance(self.network, UNet) or self.network.axis.first >= 1:
            return maps
        for axis in (2, 3, 4):
            kept = max(1, round(maps.shape[axis] * self.network.axis.first))
            maps = maps.narrow(axis, (maps.shape[axis] - kept) // 2, kept)
        return maps

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """As `evaluate` does: NaN for a class that nobody looked for; one that is not there is not to be found."""
        found, wanted = self._found(batch["image"][0].cpu()), batch["label"][0, 0].cpu().numpy()
        unlabelled = batch["unlabelled"][0].tolist()
        self.cases.append(
            [
                math.nan if unlabelled[value] else dice(found == value, wanted == value)
                for value in range(1, len(unlabelled))
            ]
        )

    def _found(self, image: Tensor) -> np.ndarray:
        """The best class of each voxel (x, y, z), plane by plane as the engine does it: an image may be large."""
        channels = [channel.numpy().T for channel in image]
        planes = score_planes(self.network, WorkingImage(channels, [np.asarray] * len(channels)), self.device)
        read, starts = planes.reader(), range(0, planes.count, PLANES_AT_ONCE)
        found = [read(start, min(start + PLANES_AT_ONCE, planes.count)).argmax(0).byte() for start in starts]
        return torch.cat(found, planes.axis).cpu().numpy()

    def on_validation_epoch_end(self) -> None:
        cases = torch.tensor(self.cases, device=self.device)
        self.cases.clear()
        sums = torch.stack([cases.nansum(0), cases.isfinite().sum(0)])
        total = self.trainer.strategy.reduce(sums, reduce_op="sum")
        assert isinstance(total, Tensor)
        per_class = total[0] / total[1]
        for value, mean in enumerate(per_class.tolist(), start=1):
            self.log(f"val_dice_{value}", mean)
        self.log("val_dice", per_class.nanmean(), prog_bar=True)


def schedule(optimizer: torch.optim.Optimizer, fit: FitConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """How the learning rate changes from step to step."""
    if fit.schedule == "step":
        return torch.optim.lr_scheduler.StepLR(optimizer, fit.decay_every, fit.decay)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, fit.learning_rate, total_steps=fit.steps, pct_start=0.15)


def without_unlabelled(scores: Tensor, unlabelled: Tensor) -> Tensor:
    """Scores in which classes that nobody looked for (batch, class) count as background, as they do in the label.

    p'_background = p_background + sum of p over those classes
    """
    missing = unlabelled[:, :, None, None, None]
    may_be_background = missing.clone()
    may_be_background[:, 0] = True
    background = scores.masked_fill(~may_be_background, -torch.inf).logsumexp(1, keepdim=True)
    rest = scores.masked_fill(missing, -NEVER)[:, 1:]
    return torch.cat([background, rest], 1)
