"""What a page says of a network that was exported in INT8."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from se_nas.errors import ConfigError
from se_nas.export.record import ExportedNetwork, ExportReport
from se_nas.hardware.environment import describe_environment
from se_nas.records.models.certificate import LatencyConditions, Timing
from se_nas.records.models.int8 import Int8Export, QuantisedNetwork, SEUnit
from se_nas.records.record import write_record
from se_nas.report.pages.int8.section import int8_section
from se_nas.report.pages.run import write_report
from se_nas.report.theme.words import ABSENT
from tests.report.fake_run import make_fake_run
from tests.report.pages.test_run import Page

IMAGES = 1000


def network(float_se: tuple[int, ...] | None, gained: int, lost: int, ms: float, size: int) -> QuantisedNetwork:
    """One that has so many images right that INT8 has wrong, which has 880 right, and the other way round."""
    return QuantisedNetwork(
        float_se=float_se,
        accuracy=(880 + gained - lost) / IMAGES,
        agreement=0.97,
        gained=gained,
        lost=lost,
        latency=Timing(median_ms=ms, mean_ms=ms, ci95_ms=(ms, ms), n=40),
        bytes=size,
    )


def write_int8_report(
    folder: Path, *, breaking: bool = True, together: bool = True, better: bool = False, written: tuple[int, ...] = ()
) -> Path:
    """The report of an export in INT8 in the folder of a retraining.

    Args:
        breaking: whether the SE of block 4 breaks; together: whether all do.
        better: whether INT8 finds more than float does.
    """
    every = (18, 3) if together else (5, 4)
    float32 = (10, 30) if better else (30, 10) if breaking else (6, 6)
    four = network((4,), 18 if breaking else 5, 3 if breaking else 4, 0.9, 990)
    found = Int8Export(
        weights_sha256="0" * 64,
        how="all of it",
        data="digits",
        calibrated_on=481,
        training_images=1442,
        tested_on=IMAGES,
        test_images=IMAGES,
        units=(SEUnit(block=1, words="SE ratio 4"), SEUnit(block=4, words="SE ratio 2")),
        float32=network(None, *float32, 1.5, 2000),
        int8=(network((), 0, 0, 1.0, 1000), network((1,), 5, 4, 1.1, 1010), four, network((1, 4), *every, 0.95, 1020)),
        written=written,
        files={"network_int8.onnx": 1000},
        sha256={"network_int8.onnx": "0" * 64},
        conditions=LatencyConditions(
            device="cpu Babbage", runtime="onnxruntime", dtype="int8", batch_size=1, threads=1, clock="beads"
        ),
        environment=describe_environment(),
    )
    about = ExportedNetwork(
        space="tiny", resolution=8, channels=1, classes=10, params=1, macs=1, weights_sha256="0" * 64
    )
    (folder / "export").mkdir(parents=True)
    report = ExportReport(network=about, normalisation=None, forms={}, int8=found)
    return write_record(folder / "export" / "export.json", report)


def test_the_networks_stand_beside_each_other_and_each_se_has_its_price(tmp_path: Path) -> None:
    write_int8_report(tmp_path, written=(4,))
    found = int8_section(tmp_path)
    assert found is not None
    assert [row[0] for row in found.networks] == ["float32", "INT8", "INT8, SE of block 4 in float: the file"]
    assert found.networks[0][1:] == ["90.00 % (87.98 to 91.71 %)", ABSENT, "1.5 ms", "2,000"]
    prices = {row[0]: row[1:] for row in found.prices}
    assert list(prices) == ["block 1: SE ratio 4", "block 4: SE ratio 2", "every SE"]
    accuracy, time, size = prices["block 4: SE ratio 2"]
    assert accuracy.startswith("+1.50 points (+0.5")
    assert (time, size) == ("-10.0 %", "-10")
    assert "+10.0 %" in prices["block 1: SE ratio 4"]
    assert found.verdict == (
        "INT8 costs 2.00 points of accuracy; kept in float by itself, the SE of block 4 regains some."
    )
    assert "on 481 training images of digits" in found.lead
    assert "cpu Babbage" in found.lead


def test_the_committed_result_says_what_its_page_in_the_docs_says(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    root = Path(__file__).parents[3]
    shutil.copy(root / "runs/results/int8/export.json", tmp_path / "export")
    found = int8_section(tmp_path)
    assert found is not None
    page = (root / "docs/results/int8.md").read_text()
    for _, accuracy, time, size in found.prices:
        assert f"| {accuracy} | {time} | {size} |" in page
    for _, accuracy, _, milliseconds, size in found.networks:
        assert f"| {accuracy.replace(' %)', ')')} |" in page
        assert f"| {milliseconds} | {size} |" in page
    assert "no SE in float regains any" in found.verdict


def test_se_that_regains_accuracy_only_together_and_int8_that_gains_some_are_said_to(tmp_path: Path) -> None:
    write_int8_report(tmp_path, breaking=False, better=True)
    found = int8_section(tmp_path)
    assert found is not None
    assert found.verdict == (
        "INT8 gains 2.00 points of accuracy; no SE in float regains any by itself that shows on these images, but all "
        "together regain some."
    )


def test_a_change_that_the_images_cannot_tell_from_none_is_called_that(tmp_path: Path) -> None:
    write_int8_report(tmp_path, breaking=False, together=False)
    found = int8_section(tmp_path)
    assert found is not None
    assert found.verdict == (
        "INT8 costs no accuracy that these images can tell from none, and no SE in float regains any that they can "
        "tell from none."
    )


def test_the_page_of_a_run_has_the_section_where_its_winner_was_exported_in_int8(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False)
    assert int8_section(folder / "retrain") is None
    path = write_int8_report(folder / "retrain")
    text = " ".join(Page(write_report(folder).read_text()).text.split())
    assert "In INT8" in text
    assert "block 4: SE ratio 2 +1.50 points" in text
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"export\.json"):
        write_report(folder)
