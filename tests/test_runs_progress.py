"""Progress: a bar for each run under way and one in all, or a line a run where there is no terminal."""

import functools
import io

from tqdm import tqdm

from edition.runs import Run
from edition.runs.progress import Bars, Lines, label, terminal_progress
from edition.runs.work import Job
from samlib.toy.config import ToyConfig

JOBS = [Job((Run("toy", ToyConfig(rho=rho)),)) for rho in (0.1, 0.2)]
GROUP = Job(tuple(Run("toy", ToyConfig(rho=rho)) for rho in (0.1, 0.2, 0.3)))


def test_bars_show_every_run_under_way_and_all_together():
    screen = io.StringIO()
    bars = Bars(functools.partial(tqdm, file=screen, mininterval=0, ascii=True))
    bars.begin(3)
    for fraction in (0.25, 0.75):
        for job in JOBS:
            bars.update(job, fraction)
    shown = screen.getvalue()
    for job in JOBS:
        assert f"{label(job)}  25%" in shown and f"{label(job)}  75%" in shown
    bars.finish(JOBS[0], "1.0 s")
    assert "1/3" in screen.getvalue()
    bars.close()


def test_a_finished_run_makes_room_for_the_next_bar():
    bars = Bars(functools.partial(tqdm, file=io.StringIO()))
    bars.begin(2)
    bars.update(JOBS[0], 0.5)
    bars.finish(JOBS[0], "1.0 s")
    bars.update(JOBS[1], 0.5)
    assert [place for _, place in bars._bars.values()] == [1]
    bars.close()


def test_lines_count_the_runs_of_a_group(capsys):
    lines = Lines()
    lines.begin(5)
    lines.finish(GROUP, "2.0 s")
    lines.finish(JOBS[0], "failed: no data")
    text = capsys.readouterr().err.splitlines()
    assert text[0] == f"[3/5] {GROUP.runs[0].name} and 2 more: 2.0 s"
    assert text[1] == f"[4/5] {JOBS[0].runs[0].name}: failed: no data"


def test_without_a_terminal_there_are_lines():
    assert type(terminal_progress()) is Lines
