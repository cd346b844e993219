"""The folder of a run: what the run is made of, its last two checkpoints, and which bundles are its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ScaleEquivSegLib.bundles import CARD as BUNDLE_CARD
from ScaleEquivSegLib.bundles import WEIGHTS, kind_of, read_bundle
from ScaleEquivSegLib.errors import OutputExists, SegmentationError
from ScaleEquivSegLib.whole_files import in_one_piece, remove, write_text

from .config import Config, load_config
from .evaluate import trained_names
from .export import read_card_text
from .picture_samples import PictureTask
from .preparation import Task
from .records import session
from .roster import Roster, changes

CONFIG, CARD, COMMAND = "config.yaml", "card.yaml", "command.txt"
LAST, BEFORE = "last.ckpt", "before.ckpt"
ROSTER = "cases.json"
"""The cases that the run trains and validates on."""
SESSIONS = "sessions.json"
"""By which sources and with which precision the run was trained."""
START = "start.json"
"""The name, the sha256 of the weights and the training cases of the bundle that the run began with, if any: it may be
replaced later."""
EXPORTED = "exported.txt"
"""The sha256 of the weights of each bundle that the run has made, one a line."""


def check_settings(folder: Path, config: Config) -> None:
    """Refuse the folder of another run. Where there is no checkpoint yet, any run may begin."""
    if not _has_begun(folder):
        return
    if not (folder / CONFIG).exists():
        raise OutputExists(f"{folder} has checkpoints of a run without {CONFIG}; give another folder with --run.")
    if changed := _differences(recorded_config(folder), config):
        raise OutputExists(
            "\n  ".join([f"{folder} has a run with other settings; give another folder with --run:", *changed])
        )


def check_roster(folder: Path, now: Roster) -> None:
    """Refuse other cases than those that the run in a folder trains and validates on."""
    path = folder / ROSTER
    if not path.exists() and any(now.values()):
        raise OutputExists(
            f"{folder} has a run without {ROSTER}: nobody knows which cases it was begun with. Remove the folder to "
            "start over, or give another one."
        )
    if path.exists() and (changed := changes(json.loads(path.read_text(encoding="utf-8")), now)):
        raise OutputExists(
            "\n  ".join(
                [
                    f"{folder} has a run on other cases; name those again, or give another folder to start over:",
                    *changed,
                ]
            )
        )


def claim(folder: Path, config: Config, command: str, roster: Roster) -> None:
    """Write down what the run in a folder is made of; the folder of another run is an error."""
    check_settings(folder, config)
    if _has_begun(folder):
        check_roster(folder, roster)
        return
    # The settings are written last: where they are, the rest is too.
    for name in (CONFIG, START, SESSIONS):
        remove(folder / name)
    write_text(json.dumps(roster, indent=1), folder / ROSTER)
    write_text(yaml.safe_dump(read_card_text(config.card), sort_keys=False), folder / CARD)
    write_text(command, folder / COMMAND)
    if config.start:
        start = read_bundle(config.start)
        noted = {"name": start.name, "sha256": start.sha256, "trained_on": sorted(trained_names(start))}
        write_text(json.dumps(noted), folder / START)
    write_text(yaml.safe_dump(_plain(replace(config, card=Path(CARD))), sort_keys=False), folder / CONFIG)


def _has_begun(folder: Path) -> bool:
    return any((folder / name).exists() for name in (LAST, BEFORE))


def settings_digest(config: Config) -> str:
    """The hash of all settings that decide about the weights."""
    settings = json.dumps(_settings(config), sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def recorded_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration that the run in a folder was begun with; overrides may say where its data are now."""
    if not (folder / CONFIG).exists():
        raise SegmentationError(f"{folder} has no {CONFIG}; give the folder of a run that `training fit` began.")
    return load_config(folder / CONFIG, overrides)


def recorded_command(folder: Path) -> str:
    """The command that began the run in a folder."""
    return (folder / COMMAND).read_text(encoding="utf-8")


def recorded_start(folder: Path) -> dict[str, Any] | None:
    """Name, hash and training cases of the bundle that the run in a folder began with; None if it began by chance."""
    path = folder / START
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def note_session(folder: Path, precision: str) -> None:
    """Write down by which sources and with which precision the run in a folder is trained, if it was not so before."""
    here = session()
    this = {"revision": here.revision, "changed": here.changed, "precision": precision}
    known = recorded_sessions(folder)
    if this not in known:
        write_text(json.dumps([*known, this], indent=1), folder / SESSIONS)


def recorded_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sources and precisions that the run in a folder was trained with, most often one."""
    path = folder / SESSIONS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def check_is_own(bundle: Path, folder: Path) -> None:
    """Refuse a bundle that the run in a folder has not made: it would be overwritten."""
    if not any((bundle / name).exists() for name in (BUNDLE_CARD, WEIGHTS)):
        return
    weights = bundle / WEIGHTS
    if not weights.exists() or hashlib.sha256(weights.read_bytes()).hexdigest() not in _exported(folder):
        raise OutputExists(
            f"{bundle} has a bundle that this run has not made; give another folder, or --overwrite to replace it."
        )


def note_as_own(weights: bytes, folder: Path) -> None:
    """Write down that a bundle with these weights is one that the run in a folder makes."""
    digests = dict.fromkeys([*_exported(folder), hashlib.sha256(weights).hexdigest()])
    write_text("".join(f"{digest}\n" for digest in digests), folder / EXPORTED)


def _exported(folder: Path) -> list[str]:
    path = folder / EXPORTED
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def newest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint, or the one before if that is damaged; None if there is none yet."""
    there = [path for name in (LAST, BEFORE) if (path := folder / name).exists()]
    for path in there:
        if _is_whole(path):
            return path
        print(f"warning: {path} is damaged", file=sys.stderr)
    if there:
        raise SegmentationError(f"{folder} has no checkpoint that can be read; remove it to start over.")
    return None


def finished_epochs(checkpoint: Path) -> int:
    """How many epochs a run had trained when it wrote a checkpoint."""
    epoch: int = torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]
    return epoch + 1


class TwoCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and keeps the one before it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        with in_one_piece(path) as unfinished:
            torch.save(checkpoint, unfinished)
            if _is_whole(path):  # else the one before is all there is
                with in_one_piece(path.with_name(BEFORE)) as copy:  # not moved: whoever reads finds the last one
                    shutil.copyfile(path, copy)


def _is_whole(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written; nothing of it is run for that."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _differences(begun: Config, now: Config) -> list[str]:
    """The settings that decide about the weights and are not as they were."""
    before, after = _settings(begun), _settings(now)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"{key} was {before.get(key)}, and is {after.get(key)}" for key in keys]


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a configuration in full, its card in place of the card's path, what decides about the weights, by dotted
    names: of the card what networks are trained by, and nothing of the machines, where on them the data are, and what
    the bundle is called."""
    values: dict[str, Any] = json.loads(json.dumps(settings))
    del values["compute"], values["name"]
    values["data"].pop("folder", None)
    if splits := values["data"].get("splits"):
        values["data"]["splits"] = Path(splits).name
    if start := values["start"]:
        values["start"] = Path(start).name
    task = PictureTask if kind_of(values["card"]) == "classification" else Task
    values["card"] = asdict(task.from_card(values["card"]))
    return dict(_flat(json.loads(json.dumps(values)), ""))


def _settings(config: Config) -> dict[str, Any]:
    return deciding({**_plain(config), "card": read_card_text(config.card)})


def _plain(config: Config) -> dict[str, Any]:
    """As YAML has it."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=lambda path: str(Path(path).resolve())))
    return {**values, "card": str(config.card)}


def _flat(values: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
