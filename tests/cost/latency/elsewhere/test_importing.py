"""Somebody's measurements as a latency table: files, faults in them, and networks that are worth timing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from se_nas.cost.latency.choosing import spread_architectures
from se_nas.cost.latency.elsewhere.design import d_optimal
from se_nas.cost.latency.elsewhere.handing_out import write_networks
from se_nas.cost.latency.elsewhere.importing import import_latency_table, verdict, write_imported
from se_nas.cost.latency.elsewhere.measurements_file import read_measurements, write_measurements
from se_nas.cost.latency.fit import fit_terms
from se_nas.cost.latency.table import latency_lines, read_latency_table
from se_nas.errors import ConfigError, DeviceError, OutputError
from se_nas.records.record import write_record
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from tests.cost.latency.fake_clock import INTERCEPT, SPACE, tiny_space, true_block_ms

LARGE = tiny_space(depths=(1, 2, 3), kernels=(3, 5, 7), expansions=(1.0, 2.0, 3.0, 4.0))


def true_ms(space, architecture):
    return INTERCEPT + sum(map(true_block_ms, space.resolve(architecture).blocks))


def timed(space, count, noise=0.0, ms=true_ms):
    rng = np.random.default_rng(1)
    return [(a, ms(space, a) * (1 + noise * rng.standard_normal())) for a in spread_architectures(space, count, rng)]


def lines(entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_what_is_written_is_read_and_a_table_of_it_predicts_others(tmp_path):
    path = write_measurements(tmp_path / "timed.jsonl", timed(LARGE, 120, noise=0.01))
    table = import_latency_table(LARGE, path, "phone", batch_size=2)
    assert (table.key.device, table.key.runtime, table.key.batch_size) == ("phone", "imported", 2)
    assert table.fit.held_out.mape < 0.03 < table.fit.macs.mape
    assert table.better_than_macs
    assert any("30 held-out networks" in line for line in latency_lines(table))
    again = read_latency_table(write_record(tmp_path / "phone.json", table.record()), LARGE)
    assert again.held_out == table.held_out
    assert again.table.cost(table.held_out[0][0]) == table.table.cost(table.held_out[0][0])


def test_what_somebody_measured_is_not_written_over_but_a_table_of_it_is(tmp_path):
    path = write_measurements(tmp_path / "timed.jsonl", timed(SPACE, 30))
    measured = path.read_bytes()
    table = import_latency_table(SPACE, path, "phone")
    with pytest.raises(OutputError, match="must be a file that is not there yet"):
        write_measurements(path, [])
    with pytest.raises(OutputError, match="must be a latency table, which is then replaced, or not be there"):
        write_imported(table, path)
    assert path.read_bytes() == measured
    for _ in range(2):
        assert read_latency_table(write_imported(table, tmp_path / "phone.json"), SPACE).held_out == table.held_out


def test_the_forms_of_a_file_are_one(tmp_path):
    entries = timed(SPACE, 8)
    names = [choice.name for choice in SPACE.choices]
    table = [",".join([*names, "ms"])]
    table += [",".join([*(str(a.as_dict()[name]) for name in names), repr(ms)]) for a, ms in entries]
    (tmp_path / "timed.csv").write_text("\n".join(table))
    named = []
    for number, (architecture, ms) in enumerate(entries):
        save_architecture(tmp_path / f"{number}.json", ArchitectureFile.of(SPACE, architecture))
        named.append({"architecture": f"{number}.json", "images_per_second": 4000 / ms})
    (tmp_path / "named.jsonl").write_text(lines(named))
    assert read_measurements(tmp_path / "timed.csv", SPACE) == entries
    found = read_measurements(tmp_path / "named.jsonl", SPACE, batch_size=4)
    assert [a for a, _ in found] == [a for a, _ in entries]
    assert [ms for _, ms in found] == pytest.approx([ms for _, ms in entries])


PICKS = SPACE.sample(np.random.default_rng(0)).as_dict()
OTHER = SPACE.sample(np.random.default_rng(5)).as_dict()


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([{"picks": {**PICKS, "colour": "red"}, "ms": 1}], "line 1: .*colour"),
        ([{"picks": {**PICKS, next(iter(PICKS)): 77}, "ms": 1}], "line 1: .*77"),
        (
            [{"picks": PICKS, "ms": 1}, {"picks": OTHER, "images_per_second": 9}],
            "line 2: must have one unit throughout, ms as in line 1, but has images_per_second",
        ),
        ([{"picks": PICKS, "ms": 1, "images_per_second": 9}], "line 1: must have one of ms and images_per_second, but"),
        ([{"picks": PICKS}], "line 1: must have one of ms and images_per_second, but has neither"),
        ([{"picks": PICKS, "ms": 1}, {"picks": PICKS, "ms": 2}], "line 2: .* but it is that of line 1 again"),
        ([{"picks": PICKS, "ms": 0}], "line 1: ms must be a number above 0, but got 0"),
        ([{"picks": PICKS, "ms": "fast"}], "line 1: ms must be a number above 0, but got 'fast'"),
        ([{"picks": PICKS, "ms": -1}], "line 1: ms must be a number above 0, but got -1"),
        ([{"picks": PICKS, "ms": float("nan")}], "line 1: ms must be a number above 0, but got nan"),
        ([{"picks": PICKS, "ms": 1e300}], r"line 1: ms must be from 1e-06 to 1e\+06 ms, but got 1e\+300"),
        ([{"picks": PICKS, "ms": 10**400}], r"line 1: ms must be from 1e-06 to 1e\+06 ms, but got 1000"),
        ([{"picks": PICKS, "ms": 1e-320}], r"line 1: ms must be from 1e-06 to 1e\+06 ms, but got 1e-320"),
        ([{"picks": PICKS, "images_per_second": 1e-320}], "line 1: images_per_second must be from 1e-06 to"),
        ([{"picks": PICKS, "seconds": 1}], "line 1: 'seconds' must be one of picks"),
        ([{"ms": 1}], "line 1: must have either picks or architecture"),
        ([{"picks": PICKS, "ms": 1}], "file: must have at least 24 networks to fit to, but has 1"),
        ([], "file: must have a line for each network, but it has none"),
        ([{"architecture": "gone.json", "ms": 1}], r"line 1: .*gone.json: file: must be readable"),
    ],
)
def test_a_file_with_a_fault_is_one_line_that_names_the_line(tmp_path, entries, fault):
    path = tmp_path / "timed.jsonl"
    path.write_text(lines(entries))
    with pytest.raises(ConfigError, match=fault) as error:
        import_latency_table(SPACE, path, "phone")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"ms": 1, "ms": 2}\n',
        '{\n "format": "se_nas latency table",\n "version": 1\n}\n',
        "ms,ms\n1,2\n",
        "\n \n",
        "{nonsense\n",
        '{"ms": 1\n',
        "[1]\n",
        "\x00\n",
        "ms,a\n1,2,3\n",
        'ms\n"1\n',
        "> prose, not a table\nof it\n",
    ],
)
def test_what_is_no_such_file_is_one_line(tmp_path, text):
    path = tmp_path / "timed.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        import_latency_table(SPACE, path, "phone")
    assert len(str(error.value).splitlines()) == 1


def test_times_that_blocks_do_not_explain_are_no_budget(tmp_path):
    rng = np.random.default_rng(0)
    path = write_measurements(tmp_path / "x", timed(LARGE, 60, ms=lambda space, a: float(rng.uniform(1, 100))))
    table = import_latency_table(LARGE, path, "phone")
    if table.better_than_macs:  # by chance alone
        assert table.fit.held_out.mape > 0.2
    else:
        assert verdict(table).startswith("no budget: ")


def test_terms_are_found_where_the_times_are_those_of_blocks():
    blocks = tuple(dict.fromkeys(block for a, _ in timed(LARGE, 200) for block in LARGE.resolve(a).blocks))
    place = {block: i for i, block in enumerate(blocks)}
    numbers, measured = np.zeros((200, len(blocks))), []
    for row, (architecture, ms) in zip(numbers, timed(LARGE, 200), strict=True):
        for block in LARGE.resolve(architecture).blocks:
            row[place[block]] += 1
        measured.append(ms)
    found = fit_terms(blocks, numbers, np.array(measured))
    assert np.mean(np.abs((found.intercept_ms + numbers @ found.block_ms) / measured - 1)) < 0.01


def test_chosen_networks_tell_more_than_random_ones_and_are_distinct():
    design = d_optimal(LARGE, 60)
    assert len(set(design.architectures)) == 60
    assert design.efficiency > 1.1


def test_networks_to_time_are_written_with_their_picks_and_come_back_as_a_table(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr("se_nas.cost.latency.elsewhere.importing.LEAST", 8)
    said = list(write_networks(SPACE, 8, tmp_path / "out", batch_size=2))
    assert "8 networks" in said[0]
    assert "random networks" in said[1]
    entries = [json.loads(line) for line in (tmp_path / "out/networks.jsonl").read_text().splitlines()]
    assert len(entries) == 8
    (images,) = onnx.load(tmp_path / "out" / entries[0]["onnx"]).graph.input
    assert [size.dim_value for size in images.type.tensor_type.shape.dim] == [2, 3, 8, 8]
    answered = [{**entry, "ms": true_ms(SPACE, SPACE.architecture(entry["picks"]))} for entry in entries]
    (tmp_path / "timed.jsonl").write_text(lines(answered))
    assert import_latency_table(SPACE, tmp_path / "timed.jsonl", "phone").fit.calibrated_on == 6
    with pytest.raises(OutputError, match="must be a folder that is not there yet or empty"):
        list(write_networks(SPACE, 8, tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"dtype": "float99"}, "dtype must be one of float32"),
        ({"batch_size": 10**30}, "batch_size must be from 1"),
        ({"threads": 10**30}, "threads from 1 to"),
    ],
)
def test_conditions_that_nothing_was_timed_under_are_refused(tmp_path, options, fault):
    path = write_measurements(tmp_path / "timed.jsonl", timed(SPACE, 30))
    with pytest.raises(DeviceError, match=fault):
        import_latency_table(SPACE, path, "phone", **options)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda text: text[: len(text) // 2], "phone.json: file: must be JSON"),
        (lambda text: b"", "phone.json: file: must be JSON"),
        (lambda text: b"\xff\x00" + text, "phone.json: file: must be JSON"),
        (
            lambda text: text.replace(SPACE.digest.encode(), b"another"),
            "space.digest: must be .* 'another'",
        ),
        (lambda text: text.replace(b'"ms": ', b'"ms": -', 1), "phone.json: "),
    ],
    ids=["cut in half", "empty", "of another encoding", "of another space", "negative"],
)
def test_an_imported_table_that_is_damaged_is_one_line(tmp_path, damage, fault):
    path = write_measurements(tmp_path / "timed.jsonl", timed(SPACE, 60))
    file = write_record(tmp_path / "phone.json", import_latency_table(SPACE, path, "phone").record())
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ConfigError, match=fault) as error:
        read_latency_table(file, SPACE)
    assert len(str(error.value).splitlines()) == 1
