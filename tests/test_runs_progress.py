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


def test_bars_show_every_run_under_way_and_all_together_and_a_finished_one_makes_room():
    screen = io.StringIO()
    bars = Bars(functools.partial(tqdm, file=screen, mininterval=0, ascii=True))
    bars.begin(3)
    for fraction in (0.25, 0.75):
        for job in JOBS:
            bars.update(job, fraction)
    shown = screen.getvalue()
    assert all(f"{label(job)}  {percent}%" in shown for job in JOBS for percent in (25, 75))
    assert "\n\n" in shown  # how the cursor moves to the second of them, two lines below the one in all
    bars.finish(JOBS[0], "1.0 s")
    shown = screen.getvalue()
    assert "1/3" in shown
    bars.update(GROUP, 0.5)
    assert "\n\n" not in screen.getvalue().removeprefix(shown)
    bars.close()


def test_lines_count_the_runs_of_a_group(capsys):
    lines = Lines()
    lines.begin(5)
    lines.finish(GROUP, "2.0 s")
    lines.finish(JOBS[0], "failed: no data")
    assert capsys.readouterr().err.splitlines() == [
        f"[3/5] {GROUP.runs[0].name} and 2 more: 2.0 s",
        f"[4/5] {JOBS[0].runs[0].name}: failed: no data",
    ]


def test_without_a_terminal_there_are_lines():
    assert type(terminal_progress()) is Lines
