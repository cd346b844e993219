"""`models`: list the bundles there are, and check that they can be used."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..bundles import CARD, Bundle, bundle_folders, bundled_models, find_bundles, read_bundle
from ..errors import BadBundle
from ..requirements import check_computing
from .console import check_outputs, print_table, write_json


def add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The options of `models list` and `models check`."""
    parser = commands.add_parser("models", help="what can be used to segment")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the bundled models and those in further folders")
    listing.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a folder of bundles")
    listing.add_argument("--json", type=Path, metavar="FILE", help="also write the list here")
    listing.add_argument("--overwrite", action="store_true", help="replace a list that exists")
    listing.set_defaults(command=_list_models)
    checking = actions.add_parser("check", help="load bundles as a run would, and say what is wrong with them")
    checking.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a bundle, or a folder of bundles")
    checking.add_argument("--json", type=Path, metavar="FILE", help="also write the verdicts here")
    checking.add_argument("--overwrite", action="store_true", help="replace verdicts that exist")
    checking.set_defaults(command=_check_models)


def _list_models(options: argparse.Namespace) -> None:
    check_outputs([options.json], options.overwrite)
    found, refused = find_bundles([bundled_models(), *options.folders])
    rows = [("name", "version", "kind", "task", "network", "inputs", "labels", "sha256")]
    print_table([*rows, *(_row(bundle) for bundle in found)])
    for bad in refused:
        print(f"refused: {bad.folder}: {bad.reason}", file=sys.stderr)
    if options.json:
        report = {
            "bundles": [_entry(bundle) for bundle in found],
            "refused": [{"folder": str(bad.folder), "reason": bad.reason} for bad in refused],
        }
        write_json(report, options.json)


def _row(bundle: Bundle) -> tuple[str, ...]:
    inputs = ", ".join(f"{channel.name} ({channel.modality})" for channel in bundle.inputs)
    labels = ", ".join([label.name for label in bundle.labels] + [each.name for each in bundle.classes])
    return bundle.name, bundle.version, bundle.kind, bundle.task, bundle.network, inputs, labels, bundle.sha256[:12]


def _entry(bundle: Bundle) -> dict[str, object]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "kind": bundle.kind,
        "task": bundle.task,
        "network": bundle.network,
        "inputs": [channel.name for channel in bundle.inputs],
        "labels": [label.name for label in bundle.labels],
        "classes": [each.name for each in bundle.classes],
        "sha256": bundle.sha256,
        "folder": str(bundle.folder),
    }


def _check_models(options: argparse.Namespace) -> None:
    check_outputs([options.json], options.overwrite)
    check_computing()
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
    found = bundle_folders(folder)
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
