from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import pytest

from se_nas.cost.latency.building import time_latency_table
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.command import parse_milliseconds, program_faults
from se_nas.cost.latency.timing import measure_network, measure_networks
from se_nas.errors import ConfigError, DeviceError
from se_nas.runs.run_file import LatencyConfig, parse_run
from tests.cost.latency.fake_clock import SPACE
from tests.cost.latency.runtimes.networks import NETWORK

pytestmark = pytest.mark.skipif(pytest.importorskip("onnx") is None, reason="needs onnx")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SE_NAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def program(tmp_path):
    """Writes a program that counts its calls in `calls`, and gives the key that calls it."""

    def write(body, *, words="{onnx} {runs}", **options):
        script = tmp_path / "a timer.py"
        count = (
            f"calls = open({str(tmp_path / 'calls')!r}, 'a+'); calls.write('x'); calls.seek(0); n = len(calls.read())"
        )
        script.write_text(f"import sys, json, os, time\n{count}\n{body}\n")
        return LatencyKey("phone", "command", program=f"{sys.executable} '{script}' {words}", **options)

    return write


def calls(tmp_path):
    return len((tmp_path / "calls").read_text())


@pytest.mark.parametrize(
    "output", ["1.5\n2.5\n\n 2\n", "[1.5, 2.5, 2]", '{"ms": [1.5, 2.5, 2]}', '{"milliseconds": [1.5, 2.5, 2]}']
)
def test_milliseconds_are_read_from_lines_or_json(output):
    assert parse_milliseconds(output) == [1.5, 2.5, 2.0]


@pytest.mark.parametrize("output", ["", "fast", "1.5 ms", "0", "nan", "[true]", "1e9", '{"s": [1]}', "[[2]]", '"1"x'])
def test_what_is_no_milliseconds_is_refused(output, program):
    key = program(f"print({output!r})", retries=0)
    with pytest.raises(DeviceError, match="must print milliseconds, but it printed"):
        measure_network(NETWORK, key)


def test_a_program_is_given_the_networks_file_and_the_conditions(tmp_path, program):
    onnx = pytest.importorskip("onnx")
    seen = str(tmp_path / "seen.onnx")
    body = f"import shutil; shutil.copy(sys.argv[1], {seen!r}); print(*['3'] * int(sys.argv[2]), sep=chr(10))"
    key = program(body, words="{onnx} {runs} --batch={batch_size}", batch_size=3)
    found = measure_network(NETWORK, key, rounds=7)
    assert (found.median_ms, found.n) == (3.0, 7)
    (images,) = onnx.load(tmp_path / "seen.onnx").graph.input
    assert [size.dim_value for size in images.type.tensor_type.shape.dim] == [3, 3, 8, 8]
    assert images.name == "images"


def test_no_shell_reads_the_command_line(tmp_path, program):
    key = program("print(5 if sys.argv[2] == '$(touch' else 6)", words="{onnx} $(touch pwned); ls")
    assert measure_network(NETWORK, key).median_ms == 5.0


def test_a_program_that_fails_is_called_again_and_its_last_words_are_told(tmp_path, program):
    key = program("print('adb: no devices', file=sys.stderr); sys.exit(3)", retries=2)
    with pytest.raises(DeviceError, match=r"it exited with 3; its last words are 'adb: no devices' \(3 tries\)"):
        measure_network(NETWORK, key)
    assert calls(tmp_path) == 3


def test_of_a_program_that_fails_in_silence_no_words_are_told(program):
    with pytest.raises(DeviceError, match=r"it exited with 4 and said nothing \(1 try\)"):
        measure_network(NETWORK, program("sys.exit(4)", retries=0))


def test_a_program_that_fails_once_is_forgiven(tmp_path, program):
    assert measure_network(NETWORK, program("sys.exit(1) if n == 1 else print(4)")).median_ms == 4.0
    assert calls(tmp_path) == 2


def test_a_program_that_hangs_is_ended_with_what_it_has_started(tmp_path, program):
    child = tmp_path / "child"
    start = "import subprocess; c = subprocess.Popen(['sleep', '600'])"
    body = f"{start}; open({str(child)!r}, 'w').write(str(c.pid)); c.wait()"
    key = program(body, timeout=2.0, retries=0)
    with pytest.raises(DeviceError, match="it was still running after 2 s"):
        measure_network(NETWORK, key)
    ended = Path(f"/proc/{child.read_text()}/stat")
    for _ in range(100):
        if not ended.exists() or ended.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the child must not live on")


def test_a_program_that_prints_without_end_is_ended_like_one_that_hangs(program):
    key = program("while True: sys.stdout.write('1' * 65536)", timeout=3.0, retries=0)
    with pytest.raises(DeviceError, match="it was still running after 3 s"):
        measure_network(NETWORK, key)


def test_a_program_that_prints_too_much_is_refused(program):
    key = program("print('1' * 3_000_000); print('x' * 3_000_000, file=sys.stderr)", retries=0)
    with pytest.raises(DeviceError, match="it printed 3,000,001 bytes, of which no more than 1,048,576 are read"):
        measure_network(NETWORK, key)


def test_what_a_program_leaves_running_does_not_hold_the_table_up(program, monkeypatch):
    monkeypatch.setattr("se_nas.cost.latency.runtimes.command._LAST_WORDS", 0.2)
    key = program("import subprocess; print(5, flush=True); subprocess.Popen(['sleep', '60'])", retries=0, timeout=30.0)
    assert measure_network(NETWORK, key).median_ms == 5.0


def test_a_program_that_fails_is_told_with_its_place_among_all_networks(program):
    key = program("sys.exit(1)", retries=0)
    with pytest.raises(DeviceError, match="it was at network 1 of 20"):
        table(key, None, print)


def test_a_program_that_is_not_there_is_one_line():
    key = LatencyKey("phone", "command", program="/nowhere/my_timer {onnx}")
    with pytest.raises(DeviceError, match="one that can be started, but '/nowhere/my_timer' cannot: No such file"):
        measure_network(NETWORK, key)


def table(key, keep, say=None):
    clock = partial(measure_networks, rounds=2)
    return time_latency_table(SPACE, key, calibrate_on=12, held_out=8, time_networks=clock, keep=keep, say=say)


def test_a_table_of_whole_networks_times_each_once_and_predicts_others(tmp_path, program):
    said = []
    found = table(program("print(os.path.getsize(sys.argv[1]) / 1000)"), tmp_path / "kept.jsonl", said.append)
    assert calls(tmp_path) == 20  # also those that show how long it takes
    assert said[0].startswith("latency: timing 20 networks takes about ")
    assert found.fit.method == "networks"
    assert found.fit.held_out.mape < found.fit.macs.mape
    assert found.key.runtime == found.record().key.runtime == "command"


def test_a_table_that_was_killed_at_the_tenth_network_goes_on_and_is_the_same(tmp_path, program):
    body = "print(os.path.getsize(sys.argv[1]) / 1000)"
    whole = table(program(body), tmp_path / "whole.jsonl")
    (tmp_path / "calls").unlink()
    keep = tmp_path / "kept.jsonl"
    with pytest.raises(DeviceError, match="at network 10 of 20, and the 9 networks before it are kept"):
        table(program(f"sys.exit(1) if n == 10 else 0\n{body}", retries=0), keep)
    with keep.open("a") as file:
        file.write('{"network": "torn')  # as where the process was killed
    found = table(program(body), keep)
    assert calls(tmp_path) == 10 + 11
    assert found.held_out == whole.held_out
    assert found.block_ms == whole.block_ms
    assert not keep.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"runtime": "command"}, "run: must be a command line"),
        ({"run": "timer {onnx}"}, "run: must be left out where runtime is not command"),
        ({"timeout": 5}, "timeout: must be left out where runtime is not command"),
        ({"runtime": "eager", "retries": 0}, "retries: must be left out where runtime is not command"),
        ({"runtime": "command", "run": "timer {model}"}, r"no words in braces but \{onnx\}, .*but got \{model\}"),
        ({"runtime": "command", "run": "timer 'x {onnx}"}, "no closing quotation"),
        ({"runtime": "command", "run": "timer"}, r"with \{onnx\} where the network's file goes"),
        ({"runtime": "sloth"}, "latency.runtime: must be one of onnxruntime.*but got 'sloth'"),
    ],
)
def test_a_run_file_with_a_wrong_runtime_is_one_line(value, message):
    run = {"name": "one", "space": "mbconv_digits", "latency": value}
    with pytest.raises(ConfigError, match=message) as error:
        parse_run(run, "run.yaml")
    assert len(error.value.problems) == 1


def test_a_run_file_names_the_device_the_program_or_both(tmp_path):
    words = {"runtime": "command", "run": "bin/timer {onnx}", "timeout": 5, "retries": 1}
    key = LatencyConfig(**words).key("cpu")
    assert (key.device, key.program, key.timeout, key.retries) == ("timer", "bin/timer {onnx}", 5.0, 1)
    assert LatencyConfig(**words, device="phone").key("cpu").device == "phone"
    assert program_faults("bin/timer {onnx}") == []


def test_a_run_file_from_before_there_were_runtimes_is_read():
    assert LatencyConfig.model_validate({"backend": "eager"}).runtime == "eager"
