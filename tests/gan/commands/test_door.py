"""``python -m gan``: every verb is listed, parses, fails and exits alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gan.__main__ as door

FILES = {path.stem for path in Path(door.__file__).parent.joinpath("commands").glob("[a-z]*.py")}


def test_every_file_is_a_verb():
    assert set(door.VERBS) == FILES


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_verbs_are_listed(arguments, capsys):
    assert door.main(arguments) == 0
    listed = capsys.readouterr().out
    assert all(f"  {verb} " in listed for verb in door.VERBS)


def test_another_verb_is_refused(capsys):
    assert door.main(["fly"]) == 2
    assert "expected one of train, sample" in capsys.readouterr().err


@pytest.mark.parametrize("verb", door.VERBS)
def test_verbs_explain_and_refuse(verb, capsys):
    for arguments, status in ((["--help"], 0), (["--no-such-option", "--seeds", "x"], 2)):
        with pytest.raises(SystemExit) as end:
            door.main([verb, *arguments])
        assert end.value.code == status
    shown = capsys.readouterr()
    assert f"usage: python -m gan.{verb}" in shown.out and f"python -m gan.{verb}: error: " in shown.err


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--dataset", "digits", "--width", "-1"],
        ["sample", "--run", "nowhere"],
        ["evaluate", "--run", "nowhere"],
        ["export", "--run", "nowhere"],
        ["invariance", "--run", "nowhere"],
        ["classify", "--epochs", "0"],
        ["compare", "--runs", "nowhere"],
        ["grid", "--dataset", "digits", "--print"],
        ["data", "show", "--dataset", "lysto", "--data", "nowhere"],
        ["networks", "--width", "-1"],
    ],
    ids=lambda command: command[0],
)
def test_errors_of_the_user_end_alike(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert door.main(command) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and "Traceback" not in shown.err and not shown.out
    assert not list(tmp_path.iterdir())


def test_both_ways_of_writing_a_command_are_one():
    """``python -m gan.networks`` and ``python -m gan.train``: packages and verbs alike."""
    for verb in ("networks", "train"):
        ways = ([f"gan.{verb}"], ["gan", verb])
        helps = [subprocess.run([sys.executable, "-m", *way, "--help"], capture_output=True, text=True) for way in ways]
        assert helps[0].returncode == 0 and helps[0].stdout == helps[1].stdout
