"""The file of the toy's constants: what the runs read, what rests on it, and what a page shows of it."""

import json
import types

import pytest

from edition import runs
from edition.__main__ import main
from edition.experiments import EXPERIMENTS, toy
from edition.experiments.constants import constants, table
from edition.publish.constants import PLACE, fill

ALL = {(part, name): constant for part, rows in constants().items() for name, constant in rows.items()}
DRAWN = ("mechanism_elsewhere", "best_settings")  # their constants are the search's
TOYS = {name: item for name, item in EXPERIMENTS.items() if item.kind == "toy" and name not in DRAWN}


def other(value):
    """Another value of a constant's type that every experiment takes."""
    if isinstance(value, tuple):
        return value[:-1]
    words = {"fixed": "angle", "equal": "uniform"}
    return words[value] if isinstance(value, str) else value * 2


def change(monkeypatch, part: str, name: str, value) -> None:
    """Give a constant another value, as the file would."""
    read = {"base": toy.BASE, "grids": toy.GRIDS}[part]
    monkeypatch.setitem(read, name, value)
    if name in ("reference_rho", "reference_complexity", "ratios"):
        monkeypatch.setattr(toy, name.upper(), value)
    if name in toy.NOISES:
        monkeypatch.setitem(toy.NOISES, name, value)


@pytest.mark.parametrize(("part", "name"), ALL)
def test_the_runs_that_rest_on_a_constant_are_those_that_its_row_names(monkeypatch, part, name):
    before = {item: set(toys.configs("paper")) for item, toys in TOYS.items()}
    drawn = [EXPERIMENTS[item].configs("paper") for item in DRAWN]
    change(monkeypatch, part, name, other(ALL[part, name].value))
    rests = {item for item, toys in TOYS.items() if set(toys.configs("paper")) != before[item]}
    told = ALL[part, name].runs
    assert rests == (set(TOYS) if told == ("all",) else set(told))
    assert [EXPERIMENTS[item].configs("paper") for item in DRAWN] == drawn


def test_another_value_makes_status_say_what_must_be_run_again(monkeypatch, capsys):
    def pending() -> int:
        assert main(["runs", "status", "--experiment", "mechanism", "--profile", "paper", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["pending"]

    recorded = len(runs.needed([EXPERIMENTS["mechanism"]], "paper")) - pending()
    assert recorded > 0
    change(monkeypatch, "base", "hard_scale", 3.0)
    assert pending() == len(runs.needed([EXPERIMENTS["mechanism"]], "paper"))


def test_a_row_that_lacks_a_field_is_refused_by_name(tmp_path):
    (tmp_path / "c.toml").write_text('[base]\nhidden = {what = "width", value = 50}\n')
    with pytest.raises(ValueError, match=r"c.toml: expected what, value, .*source, runs of hidden, got what, value"):
        constants(tmp_path / "c.toml")


def test_the_page_shows_every_constant_with_its_value_and_source():
    source = [f"before\n{PLACE}\nafter"]
    app = types.SimpleNamespace(env=types.SimpleNamespace(note_dependency=lambda path: None))
    fill(app, "book/decisions", source)
    assert source[0] == f"before\n{table()}\nafter"
    rows = table().splitlines()[2:]
    assert len(rows) == len(ALL) and all(row.count(" | ") == 4 for row in rows)
    width = next(row for row in rows if row.startswith("| width |"))
    assert "50: " in width and "unknown: ours" in width and "all toy runs" in width
