from __future__ import annotations

from types import SimpleNamespace

from se_nas.evidence.se_by_runtime import SEInBlock
from se_nas.report.pages.run_sections import se_words


def on(server, phone, **more):
    option_ms = {"server": {"none": 1.0, "4": 1.5}, "phone": {"none": 1.0, "4": 1.2}}
    return SEInBlock(
        **{"places": ("stage2.block1",), "shares": {"server": server, "phone": phone}, "option_ms": option_ms, **more}
    )


def tables_of(**runtimes):
    return {device: SimpleNamespace(key=SimpleNamespace(runtime=runtime)) for device, runtime in runtimes.items()}


TABLES = tables_of(server="eager", phone="onnxruntime")


def test_the_blocks_whose_share_of_se_differs_most_are_told_in_sentences_the_furthest_first():
    blocks = [on(0.2, 0.2), on(0.38, 0.19), on(0.1, 0.4, places=("stage3.block1", "stage3.block2")), on(0.3, 0.25)]
    lines = se_words(blocks, TABLES)
    assert lines[0] == (
        "SE of stage3.block1 and stage3.block2 takes 40 % on phone (ONNX Runtime) and 10 % on server (eager PyTorch) "
        "of the block's time."
    )
    assert "38 % on server (eager PyTorch) and 19 % on phone (ONNX Runtime)" in lines[1]
    assert len(lines) == 4
    assert lines[3].startswith("No option of SE is slower than another on one device and faster on another")


def test_options_of_se_that_change_places_are_named():
    swapped = on(0.2, 0.2, option_ms={"server": {"r4": 1.0, "r8": 1.1}, "phone": {"r4": 1.1, "r8": 1.0}})
    assert se_words([on(0.3, 0.1), swapped], TABLES)[-1] == (
        "The order of the options of SE differs, by 2 % of the block's time or more, for 1 pair of options in 1 block, "
        "such as r4 and r8 of stage2.block1."
    )


def test_a_device_whose_table_does_not_tell_blocks_is_left_out_in_a_line():
    few = SimpleNamespace(fit=SimpleNamespace(calibrated_on=23), blocks=[None] * 96)
    assert "board is left out: 23 networks tell the times of its 96 blocks mostly as a line on their counts." in (
        se_words([on(0.3, 0.1)], {**TABLES, "board": few})
    )


def test_of_one_device_nothing_is_said_of_disagreement():
    assert se_words([], TABLES) == []
