"""Planning, skipping and tabulating the runs of the papers' tables."""

import json
from pathlib import Path

import pytest

from gan.commands import grid
from gan.papers import runs
from gan.papers.plots import Panel, draw_precision_recall
from gan.papers.published import TABLES
from gan.papers.report import draw, format_table
from gan.papers.runs import plan, run_all
from gan.runs.results import Result, read_result


def finished_run(folder, distances, asked=2000):
    folder.mkdir(parents=True)
    (folder / "options.json").write_text(json.dumps({"options": {"iterations": asked}}))
    lines = [json.dumps({"iteration": i, "fid-10k": d}) for i, d in distances]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_plan_of_table_2_is_every_loss_setting_and_fraction():
    table = TABLES["2"]
    cells = plan(table, "rotmnist", table.losses, table.fractions, [0, 1, 2])
    assert len(cells) == len(set(cells)) == 3 * 4 * 4 * 3
    assert {cell.groups() for cell in cells} == {("p1", "p1"), ("p1", "p4"), ("p4", "p1"), ("p4", "p4")}
    assert len({cell.folder(Path("x")) for cell in cells}) == len(cells)


def test_settings_that_the_paper_calls_inapplicable_are_not_planned():
    titles = [c.setting.title for c in plan(TABLES["3"], "anhir", ["ragan"], [1.0], [0])]
    assert "CNN in G & D + AR" not in titles and "CNN in G & D + bCR" in titles


def test_tables_are_complete_and_name_presets():
    for table in TABLES.values():
        for (dataset, loss, title), row in table.figures.items():
            assert dataset in table.datasets and loss in table.losses and len(row) == len(table.fractions)
            assert title in [setting.title for setting in table.settings]


def test_finished_runs_are_skipped_and_unfinished_ones_run(tmp_path, monkeypatch):
    cells = plan(TABLES["2"], "rotmnist", ["ragan"], [1.0], [0])
    finished_run(cells[0].folder(tmp_path), [(0, 50.0), (1000, 4.0), (2000, 2.0)])
    finished_run(cells[1].folder(tmp_path), [(0, 50.0), (1000, 4.0)])
    commands = []
    monkeypatch.setattr(runs.subprocess, "run", lambda c, **_: commands.append(c) or type("R", (), {"returncode": 0}))
    assert run_all(cells, tmp_path, ["--width", "0.25"], gpus=0) == []
    trained = [command for command in commands if "gan.train" in command]
    assert len(trained) == 3 and all(command[-2:] == ["--width", "0.25"] for command in trained)
    assert all(str(cells[0].folder(tmp_path)) not in command for command in trained)
    measured = [command[4] for command in commands if "gan.evaluate" in command]
    assert measured == [str(cell.folder(tmp_path)) for cell in cells[:2]]
    (cells[0].folder(tmp_path) / "evaluation-00002000.json").write_text('{"precision-9-x": 0.5, "recall-9-x": 0.25}')
    commands.clear()
    run_all(cells[:1], tmp_path, [], gpus=0)
    result = read_result(cells[0].folder(tmp_path))
    assert commands == [] and (result.snapshot_metric, result.snapshots) == ("precision-9-x", ((0.5, 0.25),))


def test_snapshots_are_points_of_the_plane(tmp_path, monkeypatch):
    points = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda self, x, y, **style: points.append((x, y, style["label"])))
    some = Result(2, 2, "fid-9-x", (), "precision-9-x", ((0.5, 0.25), (0.75, 0.125)))
    draw_precision_recall([[Panel("ragan", {"CNN": [some], "G-CNN": [some, some]})]], tmp_path / "plane.png")
    recall_and_precision = ((0.25, 0.125), (0.5, 0.75))
    assert points == [(*recall_and_precision, label) for label in ("CNN", "G-CNN", None)]
    assert (tmp_path / "plane.png").stat().st_size > 1000


def test_table_holds_minimum_and_mean_without_the_start_averaged_over_seeds(tmp_path):
    cells = plan(TABLES["2"], "rotmnist", ["ragan"], [1.0], [0, 1])
    finished_run(cells[0].folder(tmp_path), [(0, 99.0), (1000, 4.0), (2000, 2.0)])
    finished_run(cells[1].folder(tmp_path), [(0, 99.0), (1000, 8.0), (2000, 4.0)])
    text = format_table(TABLES["2"], "rotmnist", ["ragan"], [1.0], [0, 1], tmp_path)
    assert "| ragan | CNN in G & D | 3, 4.5 [1.36, 11.7] |" in text
    assert "| ragan | G-CNN in G & D | - [0.53, 2.9] |" in text
    assert "min, mean of the evaluations (fid-10k)" in text
    pictures = draw(TABLES["2"], "rotmnist", ["ragan"], [1.0], [0, 1], tmp_path)
    assert [picture.name for picture in pictures] == ["curves.png", "precision-recall.png"]
    assert all(picture.stat().st_size > 1000 for picture in pictures)


def test_relative_table_divides_by_the_first_row(tmp_path):
    cells = plan(TABLES["birrell"], "rotmnist60k", ["ragan"], [0.1], [0])
    for cell, distance in zip(cells, (20.0, 18.0, 10.0, 8.0, 5.0, 4.0), strict=True):
        finished_run(cell.folder(tmp_path), [(2000, distance)])
    text = format_table(TABLES["birrell"], "rotmnist60k", ["ragan"], [0.1], [0], tmp_path)
    assert "| ragan | CNN G & D | 1 [1] |" in text
    assert "| ragan | Eqv G + Inv D, C4 | 0.25 [0.256] |" in text


def test_unknown_dataset(capsys):
    assert grid.main(["--table", "2", "--dataset", "food101"]) == 1
    assert "dataset: table 2 has rotmnist, not food101" in capsys.readouterr().err


def test_the_papers_own_name_of_a_data_set_is_understood_and_options_of_training_are_not_abbreviated(tmp_path, capsys):
    paper = ["--table", "birrell", "--dataset", "rotmnist", "--data", "elsewhere", "--print", "--outdir", str(tmp_path)]
    assert grid.main(paper) == 0
    assert "Birrell" in capsys.readouterr().out


def test_losses_and_fractions_are_chosen(tmp_path, capsys):
    arguments = ["--table", "2", "--print", "--outdir", str(tmp_path), "--losses", "ragan", "--fractions", "0.33", "1"]
    assert grid.main(arguments) == 0
    out = capsys.readouterr().out
    assert "33%" in out and "100%" in out and "10%" not in out.replace("100%", "")


def test_rows_are_chosen_by_number(tmp_path, capsys):
    arguments = ["--table", "birrell", "--print", "--outdir", str(tmp_path), "--rows"]
    assert grid.main([*arguments, "1", "5"]) == 0
    out = capsys.readouterr().out
    assert "CNN G & D" in out and "Eqv G + Inv D, C4" in out and "(I)Eqv" not in out and "C8" not in out
    assert grid.main([*arguments, "0"]) == 1
    assert "rows: expected some of 1 to 6, got [0]" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_grid_end_to_end(tmp_path, monkeypatch, capsys):
    """Two real runs of the digits in place of rotmnist."""
    table = TABLES["2"]
    digits = type(table)("test", ("digits",), (table.settings[0], table.settings[3]), ("nsgan",), (1.0,), {
        ("digits", "nsgan", table.settings[0].title): ((1.0, 2.0),),
    }, "min, mean")  # fmt: skip
    monkeypatch.setitem(TABLES, "2", digits)
    arguments = [
        "--table",
        "2",
        "--outdir",
        str(tmp_path),
        "--iterations",
        "2",
        "--eval-every",
        "0",
        "--batch-size",
        "8",
    ]
    assert grid.main(arguments) == 0
    assert "2 runs: 0 finished, 2 to do" in capsys.readouterr().out
    assert grid.main(arguments) == 0
    out = capsys.readouterr().out
    assert "2 runs: 2 finished, 0 to do" in out and "| - [1, 2] |" in out
