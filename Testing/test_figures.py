"""Figures and tables follow from the records alone: same bytes, right means, sound intervals."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from training.__main__ import main
from training.evaluate import Row, summary
from training.figures import draw_all, styles_of
from training.records import RECORDS, BadRecords, Record, arranged, read_record, read_records, write_record
from training.tables import CONFIDENCE, STUDENT, Estimate, markdown, paired_difference

SCALES = (0.5, 1.0)
LABELS = ("Head", "Body")


def record(variant: str, seed: int, dice: np.ndarray, size: int = 10, network: str = "unet") -> Record:
    """A record with the Dice (scale, label, case) that it is told."""
    cases = [f"case_{number}" for number in range(dice.shape[2])]
    rows = [
        Row(case, scale, label, float(dice[s, l, c]), float(10 - dice[s, l, c]))
        for s, scale in enumerate(SCALES)
        for l, label in enumerate(LABELS)
        for c, case in enumerate(cases)
    ]
    names, figures = arranged(rows)
    return Record(
        experiment="made_up",
        variant=variant,
        reference="unet",
        size=size,
        seed=seed,
        training_cases=size or 40,
        parameters=1234,
        overrides=[],
        test={"split": "val", "scales": list(SCALES)},
        config={"network": {"name": network}},
        trained=[{"revision": "0a1b2c3d4e5f", "changed": False, "seconds": 60.0}],
        measured={"revision": "0a1b2c3d4e5f", "changed": False, "seconds": 6.0},
        means=summary(rows),
        cases=names,
        rows=figures,
    )


def two_variants(seeds: Sequence[int] = (0, 1, 2)) -> list[Record]:
    """se_unet is better by 0.1 in the mean; what varies over cases and seeds differs between the two."""
    made = []
    for seed in seeds:
        random = np.random.default_rng(seed)
        common = random.uniform(0.3, 0.6, (2, 2, 8))
        made.append(record("unet", seed, common))
        made.append(record("se_unet", seed, common + 0.1 + random.normal(0, 0.02, (2, 2, 8)), network="se_unet"))
        made.append(record("unet", seed, common + 0.2, size=0))
    return made


def write_all(records: Sequence[Record], folder: Path) -> None:
    for each in records:
        write_record(each, folder / each.experiment / f"{each.variant}_{each.size}_{each.seed}.json")


def test_the_same_records_are_drawn_to_the_same_bytes_whatever_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = two_variants()
    write_all(records, tmp_path / "records")
    write_all(records[::-1], tmp_path / "again")
    command = ["training", "figures", str(tmp_path / "records"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    main()
    files = draw_all(tmp_path / "again", tmp_path / "redrawn")
    names = ["made_up.csv", "made_up.md", "made_up_n10.png", "made_up_nall.png", "made_up_training_cases.png"]
    assert sorted(path.name for path in files) == names
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / path.name) for path in files]
    for path in files:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = two_variants()[1]
    write_record(written, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == written
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(BadRecords, match="no record of a run"):
        read_record(tmp_path / "record.json")
    (tmp_path / "record.json").write_text('{"experiment": ')
    with pytest.raises(BadRecords, match=r"record\.json cannot be read as a record"):
        read_record(tmp_path / "record.json")


def test_a_class_that_a_case_has_no_figure_of_does_not_count(tmp_path: Path) -> None:
    rows = [Row("a", 1.0, "Head", 0.8, 1.0), Row("a", 1.0, "Body", 0.4, 1.0), Row("b", 1.0, "Head", 0.9, 1.0)]
    names, figures = arranged(rows)
    assert names == ["a", "b"]
    assert figures[1]["dice"] == [0.4, None]
    assert summary(rows)["dice.Body@1"] == pytest.approx(0.4)
    assert summary(rows)["dice.mean@1"] == pytest.approx((0.85 + 0.4) / 2)
    base = two_variants()[0]
    measured = dataclasses.replace(base, cases=names, rows=figures)
    write_record(measured, tmp_path / "record.json")
    dice = read_record(tmp_path / "record.json").dice(1.0)
    assert dice == pytest.approx(np.array([[0.8, 0.9], [0.4, np.nan]]), nan_ok=True)


def test_the_tables_that_come_with_the_project_are_those_of_its_records() -> None:
    records = read_records(RECORDS)
    experiments = {record.experiment for record in records}
    assert {"scale_curve", "data_efficiency"} <= experiments
    for experiment in experiments:
        shown = (RECORDS / "figures" / f"{experiment}.md").read_text(encoding="utf-8")
        assert shown == markdown([record for record in records if record.experiment == experiment])


def test_variants_are_compared_with_the_one_that_is_asked_for(tmp_path: Path) -> None:
    write_all(two_variants(), tmp_path)
    draw_all(tmp_path, tmp_path / "out")
    draw_all(tmp_path, tmp_path / "turned", reference="se_unet")
    as_recorded, turned = ((tmp_path / out / "made_up.md").read_text(encoding="utf-8") for out in ("out", "turned"))
    assert "less that of unet," in as_recorded
    assert "| se_unet | 3 | +0." in as_recorded
    assert "less that of se_unet," in turned
    assert "| unet | 3 | -0." in turned
    with pytest.raises(BadRecords, match="no record is of a variant 'vnet'; there are se_unet, unet"):
        draw_all(tmp_path, tmp_path / "none", reference="vnet")


def test_tables_hold_mean_and_standard_deviation_over_seeds(tmp_path: Path) -> None:
    records = two_variants()
    write_all(records, tmp_path)
    draw_all(tmp_path, tmp_path / "out")
    with (tmp_path / "out" / "made_up.csv").open(newline="", encoding="utf-8") as stream:
        rows = {
            (row["variant"], row["training_cases"], row["scale"], row["class"]): row for row in csv.DictReader(stream)
        }
    of_seeds = [each.mean("dice.Head", 0.5) for each in records if (each.variant, each.size) == ("unet", 10)]
    row = rows["unet", "10", "0.5", "Head"]
    assert float(row["dice"]) == pytest.approx(np.mean(of_seeds), abs=1e-4)
    assert float(row["dice_sd"]) == pytest.approx(np.std(of_seeds, ddof=1), abs=1e-4)
    assert (row["parameters"], row["seeds"]) == ("1234", "3")
    assert len(rows) == 3 * len(SCALES) * 3

    text = (tmp_path / "out" / "made_up.md").read_text(encoding="utf-8")
    estimate = Estimate.of([each.mean("dice.mean", 1.0) for each in records if each.variant == "se_unet"])
    assert f"| se_unet | 1,234 | 3 | {estimate.text()} |" in text
    assert "40 training cases (all)" in text
    assert Estimate.of([0.5]).text() == "0.500"
    assert "±" not in markdown(two_variants(seeds=[0])).partition("| ×1 |")[2]


def test_tables_say_with_which_sources_their_records_were_made() -> None:
    records = two_variants()
    assert "sources of revision 0a1b2c3d4e." in markdown(records)
    later = {"revision": "f" * 40, "changed": True, "seconds": 1.0}
    mixed = [dataclasses.replace(records[0], measured=later), *records[1:]]
    assert "several revisions, which may not do the same: 0a1b2c3d4e, ffffffffff with changes." in markdown(mixed)


def test_the_paired_interval_holds_the_true_difference_and_is_nothing_for_equals() -> None:
    records = two_variants()
    unet, se_unet = (
        [each for each in records if (each.variant, each.size) == (name, 10)] for name in ("unet", "se_unet")
    )
    difference = paired_difference(se_unet, unet, 1.0)
    assert difference is not None
    assert difference.seeds == 3
    assert 0.08 < difference.low < difference.mean < difference.high < 0.12
    equal = paired_difference(unet, unet, 1.0)
    assert equal is not None
    assert (equal.mean, equal.low, equal.high) == (0, 0, 0)
    assert paired_difference(se_unet[:1], unet[1:], 1.0) is None
    shorter = [dataclasses.replace(each, cases=each.cases[:-1]) for each in unet]
    with pytest.raises(BadRecords, match="not measured on the same cases"):
        paired_difference(se_unet, shorter, 1.0)


def test_a_difference_is_that_of_the_means_in_the_table_also_where_cases_lack_classes() -> None:
    ours = np.array([[[0.9, 0.5, 0.6], [0.8, np.nan, np.nan]]] * 2)
    others = np.array([[[0.7, 0.8, 0.9], [0.9, np.nan, np.nan]]] * 2)
    pair = record("se_unet", 0, ours), record("unet", 0, others)
    difference = paired_difference(pair[:1], pair[1:], 1.0)
    assert difference is not None
    assert difference.mean == pytest.approx(pair[0].mean("dice.mean", 1.0) - pair[1].mean("dice.mean", 1.0))
    assert difference.low <= difference.mean <= difference.high


def test_a_class_that_no_case_was_measured_for_has_no_figure_in_the_tables() -> None:
    dice = np.array([[[0.9, 0.5], [np.nan, np.nan]]] * 2)
    table = markdown([record("unet", 0, dice), record("unet", 1, dice)])
    assert "| unet | 1,234 | 2 | 0.700 ± 0.000 | 0.700 ± 0.000 | – |" in table


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
@pytest.mark.parametrize(("of_seed", "of_case"), [(0.05, 0.01), (0.01, 0.05), (0.03, 0.05)])
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(
    seeds: int, of_seed: float, of_case: float
) -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(60):
        gained = 0.1 + random.normal(0, of_seed, (seeds, 1)) + random.normal(0, of_case, (1, 27))
        ours = [record("se_unet", s, np.broadcast_to(0.5 + row, (2, 2, 27))) for s, row in enumerate(gained)]
        others = [record("unet", s, np.full((2, 2, 27), 0.5)) for s in range(seeds)]
        difference = paired_difference(ours, others, 1.0)
        assert difference is not None
        hits += difference.low < 0.1 < difference.high
    assert 53 <= hits <= 60


def test_student_s_t_is_that_of_the_confidence() -> None:
    quantiles = stats.t.ppf(0.5 + CONFIDENCE / 200, range(1, len(STUDENT) + 1))
    assert pytest.approx(quantiles, abs=1e-3) == STUDENT


def test_of_one_seed_the_interval_is_over_cases_alone_and_the_table_says_so() -> None:
    dice = np.full((2, 2, 3), 0.5)
    ours, others = [record("se_unet", s, dice + 0.1 * s) for s in range(2)], [record("unet", s, dice) for s in range(2)]
    alone, both = (paired_difference(ours[:n], others[:n], 1.0) for n in (1, 2))
    assert alone is not None
    assert both is not None
    assert alone.low == alone.high
    assert both.high - both.low == pytest.approx(2 * 12.706 * 0.05)
    assert "over cases and seeds (of one seed over cases alone" in markdown([*ours, *others])


def test_a_scale_at_which_nothing_is_left_to_find_has_no_difference() -> None:
    dice = np.stack([np.full((2, 3), np.nan), np.full((2, 3), 0.5)])
    table = markdown([record(name, seed, dice, network=name) for name in ("unet", "se_unet") for seed in (0, 1)])
    assert "| se_unet | 2 | – | +0.000 [+0.000, +0.000] |" in table


def test_records_of_different_tests_share_no_table() -> None:
    one, other = two_variants()[:2]
    with pytest.raises(BadRecords, match="different tests"):
        markdown([one, dataclasses.replace(other, test={**other.test, "split": "test"})])


def test_every_variant_looks_different_and_a_network_keeps_its_colour() -> None:
    dice = np.full((2, 2, 3), 0.5)
    records = [record(f"unet {n}", 0, dice) for n in range(3)] + [record("ours", 0, dice, network="se_unet")]
    styles = styles_of(records)
    assert len({tuple(style.items()) for style in styles.values()}) == 4
    assert len({styles[f"unet {n}"]["color"] for n in range(3)}) == 1
    assert styles["ours"]["color"] != styles["unet 0"]["color"]
    alone = styles_of([record(f"unet {n:02d}", 0, dice) for n in range(12)])
    assert len({tuple(style.items()) for style in alone.values()}) == 12
