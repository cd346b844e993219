"""`models`: list the bundles there are, and check that they can be used."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..bundles import CARD, bundled_models, find_bundles, read_bundle
from ..errors import BadBundle
from .console import print_table, write_json


def add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `models list` and `models check`."""
    parser = commands.add_parser("models", help="what can be used to segment")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the bundled models and those in further folders")
    listing.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a folder of bundles")
    listing.add_argument("--json", type=Path, metavar="FILE", help="also write the list here")
    listing.set_defaults(command=_list_models)
    checking = actions.add_parser("check", help="load bundles as a run would, and say what is wrong with them")
    checking.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a bundle, or a folder of bundles")
    checking.add_argument("--json", type=Path, metavar="FILE", help="also write the verdicts here")
    checking.set_defaults(command=_check_models)


def _list_models(options: argparse.Namespace) -> None:
    found, refused = find_bundles([bundled_models(), *options.folders])
    rows = [("name", "version", "task", "network", "labels")]
    rows += [(b.name, b.version, b.task, b.network, ", ".join(label.name for label in b.labels)) for b in found]
    print_table(rows)
    for bad in refused:
        print(f"refused: {bad.folder}: {bad.reason}", file=sys.stderr)
    if options.json:
        report = {
            "bundles": [{"name": b.name, "version": b.version, "folder": str(b.folder)} for b in found],
            "refused": [{"folder": str(b.folder), "reason": b.reason} for b in refused],
        }
        write_json(report, options.json)


def _check_models(options: argparse.Namespace) -> None:
    verdicts: dict[str, str] = {}
    for folder in options.folders:
        for bundle in _bundles_in(folder):
            verdicts[str(bundle)] = _complaint(bundle)
    for name, complaint in verdicts.items():
        print(f"refused: {complaint}" if complaint else f"good: {name}", file=sys.stderr if complaint else sys.stdout)
    if options.json:
        write_json(verdicts, options.json)
    bad = sum(map(bool, verdicts.values()))
    if bad:
        raise BadBundle(f"{bad} of {len(verdicts)} bundle(s) cannot be used; copy or export them again.")


def _bundles_in(folder: Path) -> list[Path]:
    if (folder / CARD).exists():
        return [folder]
    found = sorted(card.parent for card in folder.glob(f"*/{CARD}"))
    if not found:
        raise BadBundle(
            f"{folder} is no bundle and holds none; give a folder with a {CARD}, or a folder of such folders."
        )
    return found


def _complaint(folder: Path) -> str:
    """What is wrong with a bundle, its weights included; nothing if it is good."""
    # torch takes seconds to import, and listing needs none.
    from ..inference import load_network

    try:
        load_network(read_bundle(folder))
    except BadBundle as error:
        return str(error)
    return ""
