from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from se_nas.data.in_memory.parts import load_parts, save_parts, split_parts
from se_nas.errors import ConfigError, DataError

_FRACTIONS = {"weights": 0.5, "choices": 0.3, "validation": 0.2}


@st.composite
def _cases(draw: st.DrawFn) -> tuple[torch.Tensor, dict[str, float], int]:
    sizes = draw(st.lists(st.integers(10, 60), min_size=1, max_size=6))
    shares = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    seed = draw(st.integers(0, 2**32))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    fractions = {f"part {number}": share / sum(shares) for number, share in enumerate(shares)}
    return labels.repeat(2), fractions, seed  # 20 images of a class leave no part empty: the least share is 1/16


@given(_cases())
def test_parts_are_disjoint_covering_stratified_and_fixed_by_the_seed(
    case: tuple[torch.Tensor, dict[str, float], int],
) -> None:
    labels, fractions, seed = case
    parts = split_parts(labels, fractions, seed)
    assert list(parts) == list(fractions)
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(len(labels)))
    whole = labels.bincount()
    for name, part in parts.items():
        counts = labels[part].bincount(minlength=len(whole))
        assert ((counts - whole * fractions[name]).abs() < 1 + 1e-6).all()
        assert torch.equal(part, part.sort().values)
    again = split_parts(labels, fractions, seed)
    assert all(torch.equal(parts[name], again[name]) for name in parts)


def test_fractions_that_divide_a_class_exactly_are_kept_exactly() -> None:
    labels = torch.arange(10).repeat(100)
    for seed in range(20):
        parts = split_parts(labels, {"a": 0.1, "b": 0.2, "c": 0.7}, seed)
        assert labels[parts["a"]].bincount().tolist() == [10] * 10
        assert labels[parts["b"]].bincount().tolist() == [20] * 10


def test_rounding_favours_no_part() -> None:
    labels = torch.arange(400).repeat(3)  # 1.5 images of every class to each part
    parts = split_parts(labels, {"a": 0.5, "b": 0.5}, seed=0)
    assert abs(len(parts["a"]) - 600) < 60


def test_another_seed_is_another_split() -> None:
    labels = torch.arange(10).repeat(20)
    first, second = (split_parts(labels, _FRACTIONS, seed)["weights"] for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}, {"a": 1, "b": 0}])
def test_fractions_that_do_not_sum_to_one_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(DataError, match="above 0 and sum to 1, but got"):
        split_parts(torch.zeros(10, dtype=torch.int64), fractions, 0)


def test_an_empty_part_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match=r"of 2 images .* leaves"):
        split_parts(torch.zeros(2, dtype=torch.int64), _FRACTIONS, 0)


def test_parts_come_back_from_their_file(tmp_path: Path) -> None:
    labels = torch.arange(10).repeat(10)
    parts = split_parts(labels, _FRACTIONS, seed=3)
    save_parts(tmp_path / "parts.json", parts, labels, seed=3)
    loaded = load_parts(tmp_path / "parts.json", labels)
    assert list(loaded) == list(parts)
    assert all(torch.equal(loaded[name], parts[name]) for name in parts)
    content = json.loads((tmp_path / "parts.json").read_text())
    assert content["seed"] == 3
    assert content["sizes"] == {"weights": 50, "choices": 30, "validation": 20}


@pytest.mark.parametrize("change", ["order", "length"])
def test_parts_of_other_labels_are_refused(tmp_path: Path, change: str) -> None:
    labels = torch.arange(10).repeat(10)
    save_parts(tmp_path / "parts.json", split_parts(labels, _FRACTIONS, 0), labels, 0)
    other = labels.flip(0) if change == "order" else labels[:-1]
    with pytest.raises(DataError, match="must be of this data set"):
        load_parts(tmp_path / "parts.json", other)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(kind="other"), "kind: must be 'se_nas parts', but got 'other'"),
        (lambda content: content.update(version=2), "version: must be 1, but got 2"),
        (lambda content: content.update(parts=[1]), r"parts: must be a mapping, but got \[1\]"),
        (lambda content: content.update(parts={}), "as many and as large as 'sizes' and 'images' say"),
        (lambda content: content.update(parts={}, sizes={}), "each of the 100 images once"),
        (lambda content: content["parts"].update(weights=["x"]), r"parts.weights\[0\]: must be a whole number"),
        (lambda content: content["parts"].update(weights=[*content["parts"]["weights"][:-1], 1]), "100 images once"),
        (lambda content: content.update(images=99), "as many and as large as 'sizes' and 'images' say"),
        (lambda content: content["parts"].pop("weights"), "as many and as large as 'sizes' and 'images' say"),
    ],
)
def test_a_file_of_other_content_is_refused(tmp_path: Path, edit: object, message: str) -> None:
    labels = torch.arange(10).repeat(10)
    path = tmp_path / "parts.json"
    save_parts(path, split_parts(labels, _FRACTIONS, 0), labels, 0)
    content = json.loads(path.read_text())
    edit(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        load_parts(path, labels)
    assert str(path) in str(caught.value)


def test_a_missing_and_a_truncated_file_are_errors(tmp_path: Path) -> None:
    labels = torch.arange(10)
    with pytest.raises(ConfigError, match="must be readable, but got: No such file"):
        load_parts(tmp_path / "absent.json", labels)
    (tmp_path / "parts.json").write_text('{"kind": "se_n')
    with pytest.raises(ConfigError, match=r"parts.json: file: must be JSON"):
        load_parts(tmp_path / "parts.json", labels)
