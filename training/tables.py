"""What the records of an experiment say together: means and spread over seeds, differences case by case, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .records import BadRecords, Record

DRAWS = 2000
CONFIDENCE = 95
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
"""Student's t at this confidence for 1, 2, ... degrees of freedom; the last is taken for more: a little too wide."""
INTERVAL = (
    f"{CONFIDENCE} % interval over {{cases}} and seeds (of one seed over {{cases}} alone, which says nothing of others)"
)

Cells = list[str]


@dataclass(frozen=True)
class Estimate:
    """Mean and standard deviation over seeds; one seed has no spread."""

    mean: float
    deviation: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Estimate:
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Estimate(float(np.mean(values)), spread)

    @property
    def is_known(self) -> bool:
        """Whether anything was measured."""
        return not math.isnan(self.mean)

    def text(self, digits: int = 3) -> str:
        mean = f"{self.mean:.{digits}f}" if self.is_known else "–"
        return mean if self.deviation is None or not self.is_known else f"{mean} ± {self.deviation:.{digits}f}"


@dataclass(frozen=True)
class Difference:
    """A figure of one variant less that of another, with the ends of its confidence interval."""

    mean: float
    low: float
    high: float
    seeds: int

    @staticmethod
    def between(of_seeds: np.ndarray, drawn: np.ndarray) -> Difference:
        """From the difference of each seed, and from those of all seeds together on cases that a bootstrap drew.

        What seeds and what cases leave open add up as independent errors do, by their squares: a t interval over the
        few seeds, percentiles of the bootstrap over the cases.
        """
        mean, count = float(of_seeds.mean()), len(of_seeds)
        if math.isnan(mean):
            return Difference(mean, mean, mean, count)
        low, high = np.nanpercentile(drawn, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
        reach = 0.0
        if count > 1:
            reach = STUDENT[min(count - 1, len(STUDENT)) - 1] * float(np.std(of_seeds, ddof=1)) / math.sqrt(count)
        return Difference(mean, mean - math.hypot(mean - low, reach), mean + math.hypot(high - mean, reach), count)

    def text(self) -> str:
        if math.isnan(self.mean):
            return "–"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def estimate(records: Sequence[Record], metric: str, scale: float) -> Estimate:
    """Of records that differ by seed."""
    return Estimate.of([record.mean(metric, scale) for record in records])


def paired_difference(ours: Sequence[Record], others: Sequence[Record], scale: float) -> Difference | None:
    """Of the mean Dice, on the same cases and seeds; None if there is no seed that both have.

    Of one seed the interval says how far the cases agree, and nothing of other seeds.
    """
    pairs = pairs_by_seed(ours, others)
    if not pairs:
        return None
    # (seed, case, class)
    difference = np.stack([one.dice(scale) - other.dice(scale) for one, other in pairs]).swapaxes(1, 2)
    cases = draws(difference.shape[1], np.random.default_rng(0))
    return Difference.between(_mean_over_classes(difference), _mean_over_classes(difference.mean(0)[cases]))


def _mean_over_classes(drawn: np.ndarray) -> np.ndarray:
    """Of (draw, case, class) the mean that `evaluate` prints: of each class over its cases, then over classes.

    Classes that count in no mean of a case are NaN there; a draw that has nothing else is NaN.
    """
    known = ~np.isnan(drawn)
    count = known.sum(1)
    of_class = np.where(known, drawn, 0).sum(1) / np.maximum(count, 1)
    classes = (count > 0).sum(1)
    mean: np.ndarray = np.where(classes > 0, of_class.sum(1) / np.maximum(classes, 1), np.nan)
    return mean


def pairs_by_seed(ours: Sequence[Record], others: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The records of each seed that both have, all of the same cases."""
    of_others = {record.seed: record for record in others}
    pairs = [(record, of_others[record.seed]) for record in ours if record.seed in of_others]
    if any(one.cases != other.cases for one, other in pairs) or len({tuple(one.cases) for one, _ in pairs}) > 1:
        raise BadRecords(f"{ours[0].variant} and {others[0].variant} were not measured on the same cases")
    return pairs


def draws(count: int, random: np.random.Generator) -> np.ndarray:
    """Which of so many each draw of a bootstrap takes, as many as there are: (draw, taken)."""
    return random.integers(count, size=(DRAWS, count))


@dataclass(frozen=True)
class Group:
    """The records of an experiment at one number of training cases, those of each variant together."""

    size: int
    variants: dict[str, list[Record]]

    @property
    def records(self) -> list[Record]:
        return [record for of_variant in self.variants.values() for record in of_variant]

    @property
    def title(self) -> str:
        cases = self.records[0].training_cases
        return f"{cases} training cases" + (" (all)" if self.size == 0 else "")


def groups(records: Sequence[Record]) -> list[Group]:
    """The smallest number of training cases first, all of them last; variants by name."""
    check_same_test(records)
    found = []
    for size in sorted({record.size for record in records}, key=lambda size: size or float("inf")):
        of_size = sorted((record for record in records if record.size == size), key=lambda record: record.variant)
        variants: dict[str, list[Record]] = {}
        for record in of_size:
            variants.setdefault(record.variant, []).append(record)
        found.append(Group(size, variants))
    return found


def check_same_test(records: Sequence[Record]) -> None:
    """Refuse records that no table should hold side by side."""
    if len({(record.test["split"], tuple(record.test["scales"]), tuple(record.cases)) for record in records}) > 1:
        raise BadRecords(f"the records of {records[0].experiment} come from different tests")


def revisions_of(records: Sequence[Record]) -> str:
    """With which sources the records were made, as a sentence."""
    sessions = [session for record in records for session in (*record.trained, record.measured)]
    names = sorted({f"{each['revision'][:10]}{' with changes' * each['changed']}" for each in sessions})
    if len(names) == 1:
        return f"Computed with the sources of revision {names[0]}."
    return f"Computed with the sources of several revisions, which may not do the same: {', '.join(names)}."


def labels_of(records: Sequence[Record]) -> list[str]:
    """The classes of the test."""
    return list(dict.fromkeys(row["label"] for row in records[0].rows))


def csv_table(records: Sequence[Record]) -> Iterator[Sequence[object]]:
    """Everything, a row for each variant, size, scale and class, its heading first."""
    yield (
        *("variant", "training_cases", "scale", "class", "dice", "dice_sd", "hd95", "hd95_sd"),
        *("parameters", "seeds"),
    )
    for group in groups(records):
        for variant, of_variant in group.variants.items():
            for scale in of_variant[0].test["scales"]:
                for label in ["mean", *labels_of(records)]:
                    dice, hd95 = (estimate(of_variant, f"{metric}.{label}", scale) for metric in ("dice", "hd95"))
                    first = of_variant[0]
                    yield (
                        *(variant, first.training_cases, f"{scale:g}", label),
                        *(
                            figure_text(dice.mean),
                            figure_text(dice.deviation),
                            figure_text(hd95.mean),
                            figure_text(hd95.deviation),
                        ),
                        *(first.parameters, len(of_variant)),
                    )


def figure_text(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def markdown(records: Sequence[Record]) -> str:
    """The tables to read."""
    first, of_size = records[0], groups(records)
    parts = [
        f"# {first.experiment}",
        f"{len(first.cases)} cases of the split `{first.test['split']}`. Mean ± standard deviation over seeds; "
        "one seed has none. A class that was missed counts with the diagonal of the volume in HD95. "
        + revisions_of(records),
    ]
    for group in of_size:
        parts += [f"## {group.title}", _overall(group)]
        if len(first.test["scales"]) > 1:
            parts += ["Mean Dice of the cases magnified:", _by_scale(group)]
        if comparison := _against_reference(group):
            parts += [
                f"Mean Dice less that of {first.reference}, the same cases and seeds side by side, with the "
                f"{INTERVAL.format(cases='cases')}:",
                comparison,
            ]
    if len(of_size) > 1:
        parts += [f"## Mean Dice by training cases, ×{first.main_scale:g}", _by_size(of_size)]
    return "\n\n".join(parts) + "\n"


def table_text(heading: Cells, rows: Sequence[Cells]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _overall(group: Group) -> str:
    labels, scale = labels_of(group.records), group.records[0].main_scale
    rows = [
        [
            variant,
            f"{records[0].parameters:,}",
            str(len(records)),
            estimate(records, "dice.mean", scale).text(),
            *(estimate(records, f"dice.{label}", scale).text() for label in labels),
            estimate(records, "hd95.mean", scale).text(2),
        ]
        for variant, records in group.variants.items()
    ]
    return table_text([f"×{scale:g}", "parameters", "seeds", "mean Dice", *labels, "HD95 (mm)"], rows)


def _by_scale(group: Group) -> str:
    scales = group.records[0].test["scales"]
    rows = [
        [variant, *(estimate(records, "dice.mean", scale).text() for scale in scales)]
        for variant, records in group.variants.items()
    ]
    return table_text(["", *(f"×{scale:g}" for scale in scales)], rows)


def _against_reference(group: Group) -> str:
    """Nothing, if no variant can be compared."""
    first = group.records[0]
    scales, reference = first.test["scales"], group.variants.get(first.reference, [])
    rows = []
    for variant, records in group.variants.items():
        found = [paired_difference(records, reference, scale) for scale in scales]
        differences = [difference for difference in found if difference]
        if differences and variant != first.reference:
            rows.append([variant, str(differences[0].seeds), *(difference.text() for difference in differences)])
    return table_text(["", "seeds", *(f"×{scale:g}" for scale in scales)], rows) if rows else ""


def _by_size(of_size: Sequence[Group]) -> str:
    variants = sorted({variant for group in of_size for variant in group.variants})
    rows = [
        [
            variant,
            *(
                estimate(records, "dice.mean", records[0].main_scale).text() if records else "–"
                for records in (group.variants.get(variant, []) for group in of_size)
            ),
        ]
        for variant in variants
    ]
    return table_text(["", *(group.title for group in of_size)], rows)
