"""Spaces, run files and published networks by their names, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from se_nas.errors import ConfigError, OutputError
from se_nas.records import shipped
from se_nas.space.yaml.file import load_space

ROOT = Path(__file__).resolve().parents[2]


def test_names_are_those_of_the_repositorys_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.find_run_file("digits") == ROOT / "runs/digits.yaml"
    assert shipped.find_space("mobilenetv3_large") == ROOT / "search_spaces/baselines/mobilenetv3_large.yaml"
    assert load_space("mbconv_cifar").name == "mbconv_cifar"
    assert len(shipped.spaces()) == len(list((ROOT / "search_spaces").rglob("*.yaml")))


def test_a_file_that_is_there_wins_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()  # the run that was made of it
    assert shipped.find_run_file("digits") == ROOT / "runs/digits.yaml"
    (tmp_path / "digits").rmdir()
    (tmp_path / "digits").write_text("")
    assert shipped.find_run_file("digits") == Path("digits")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/mbconv_cifar").write_text("")
    assert shipped.find_space("mbconv_cifar", tmp_path / "sub") == tmp_path / "sub/mbconv_cifar"


@pytest.mark.parametrize("word", ["gone.yaml", "sub/digits", "./digits", "/nowhere/digits"])
def test_what_can_only_be_a_path_is_left_to_its_reader(word: str) -> None:
    assert shipped.find_run_file(word) == Path(word)


def test_an_unknown_name_comes_with_the_one_it_resembles_and_with_all() -> None:
    with pytest.raises(ConfigError, match=r"'digit': must be a file or .* run file, one of cifar10, .*mean digits"):
        shipped.find_run_file("digit")
    with pytest.raises(ConfigError, match=r"one of alphanet, .*mobilenetv3_large.*did you mean mbconv_cifar"):
        load_space("mbconv_cifer")


def test_results_of_a_shipped_file_go_to_the_working_folder_and_others_beside_their_file(tmp_path: Path) -> None:
    assert shipped.place_of_results(shipped.find_run_file("digits")) == Path()
    assert shipped.place_of_results(tmp_path / "runs/x.yaml") == tmp_path / "runs"


def test_copies_work_as_the_repository_does_and_replace_nothing(tmp_path: Path) -> None:
    copies = shipped.copy_shipped(tmp_path / "mine")
    assert len(copies) == len(shipped.spaces()) + len(shipped.run_files())
    text = (tmp_path / "mine/runs/digits.yaml").read_text()
    assert text == (ROOT / "runs/digits.yaml").read_text()
    assert "../search_spaces/" in text
    (tmp_path / "mine/runs/digits.yaml").write_text("edited")
    with pytest.raises(OutputError, match=r"mine: must hold none of the files to be copied"):
        shipped.copy_shipped(tmp_path / "mine")
    assert (tmp_path / "mine/runs/digits.yaml").read_text() == "edited"
