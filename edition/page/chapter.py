"""What a chapter needs: its checked parameters, its results, and how figures, verdicts and missing records appear."""

import ast
import functools
import html
import inspect
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from edition import runs
from edition.claims import Verdict
from edition.claims.ledger import CLAIMS
from edition.experiments import PROFILES, experiment
from edition.page.finding import finding_of
from edition.page.verdicts import source_link, verdict_html
from edition.records.provenance import usable_device
from edition.records.store import Store
from edition.runs.progress import Bars
from edition.runs.results import NotOnRecord, Results, box, read
from edition.widgets.frames import drawing, photograph
from samlib.config import check_choice, check_number
from samlib.data_root import data_root

PARAMETERS = ("profile", "train_missing", "recompute", "device", "seed")


@dataclass(frozen=True)
class Chapter:
    """The parameters of one executed chapter.

    Attributes:
        profile: "paper" (full scale, from committed records), "quick" (everything trained live at reduced scale) or
            "smoke" (a minute or two, for tests: nothing is judged).
        train_missing: at "paper", train what has no record yet instead of naming it.
        recompute: train everything again, into a folder of its own; committed records stay as they are.
        device: "auto", "cpu" or "cuda".
        seed: root seed of the chapter's live demonstration.
        data_root: folder of the real data sets, None where there is none.
        loaded: results that the chapter has loaded, by experiment.
    """

    profile: str = "paper"
    train_missing: bool = False
    recompute: bool = False
    device: str = "auto"
    seed: int = 0
    data_root: Path | None = None
    loaded: dict[str, Results] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("profile", self.profile, PROFILES)
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        check_number("seed", self.seed, low=0, integer=True)
        for name in ("train_missing", "recompute"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        usable_device(self.device)

    @property
    def torch_device(self) -> str:
        """Where to compute: "auto" means the GPU where there is one."""
        return usable_device(self.device)

    def results(self, name: str) -> Results:
        """Load an experiment's records at this profile, training first what the parameters allow.

        Args:
            name: a key of `edition.experiments.EXPERIMENTS`.
        Returns:
            What is on record of them. Displays which records they are, with a link to their provenance, and how
            many runs are missing, with the command that does them.
        Raises:
            ValueError: unknown experiment.
            RecordError: a record cannot be read or trusted, or cannot be written.
        """
        item = experiment(name)
        store = new_store("recomputed-") if self.recompute else runs.store_for(self.profile)
        needed = runs.needed([item], self.profile)
        missing = runs.pending(needed, store)
        if missing and (self.train_missing or self.recompute or self.profile != "paper"):
            summary = runs.start(
                missing, store, device=self.torch_device, data_root=self.data_root, progress=Bars(tqdm)
            )
            for error in summary.failed.values():
                raise error
            if summary.elsewhere:
                raise RuntimeError(
                    f"{name}: expected to do {len(missing)} runs, another process is doing {len(summary.elsewhere)} of "
                    "them; execute this cell again when it has ended"
                )
        results = self.loaded[name] = read(name, self.profile, store)
        display(results.source() if results else results.missing_box())
        return results

    def recorded(self, name: str) -> Results:
        """Load what an experiment has on record at this profile; train nothing and display nothing."""
        return read(name, self.profile)

    def judge(self, id: str) -> Verdict:
        """Judge a claim by what the chapter has loaded, and by what is on record of the rest.

        Args:
            id: of the claim, a key of `edition.claims.ledger.CLAIMS`.
        Raises:
            ValueError: there is no such claim.
        """
        check_choice("id", id, tuple(CLAIMS))
        claim = CLAIMS[id]
        names = (*claim.needs, *claim.also)
        return claim.verdict({name: self.loaded.get(name) or self.recorded(name) for name in names})

    def verdicts(self, *ids: str) -> None:
        """Judge claims and display each: state, claim, what was found, statistic, and the effects behind a click.

        At "smoke" a line says that nothing is judged: two epochs say nothing about a claim.
        """
        if self.profile == "smoke":
            display(box("Not judged:", "the profile smoke trains too little for a verdict."))
            return
        for id in ids:
            display(HTML(verdict_html(self.judge(id))))

    def finding(self, code: Callable[..., Any], id: str, **options: Any) -> None:
        """Say below a figure what the effects behind a claim's verdict are; nothing where its runs are missing.

        Args:
            id: of the claim.
            options: of `edition.page.finding.finding`.
        """
        verdict = self.judge(id)
        results = [self.loaded.get(name) or self.recorded(name) for name in verdict.experiments]
        show_finding(code, lambda: finding_of(verdict, **options), *results)


def new_store(prefix: str) -> Store:
    """Make a store in a new folder under results/local: what was trained before is not mixed in."""
    local = runs.store_for("quick").root
    local.mkdir(parents=True, exist_ok=True)
    return Store(tempfile.mkdtemp(prefix=prefix, dir=local))


def open_chapter(namespace: Mapping[str, Any], *, also: Sequence[str] = ()) -> Chapter:
    """Read and check a chapter's parameters.

    The folder of the real data sets is the parameter `data_root` where the chapter has one and it is not empty, else
    the environment variable SAMLIB_DATA, else none.

    Args:
        namespace: the notebook's `globals()`.
        also: parameters of this chapter beside `PARAMETERS`; the chapter reads them itself.
    Raises:
        ValueError, TypeError: an unknown parameter was injected, or a value is not allowed.

    >>> open_chapter({"profile": "quick"}).profile
    'quick'
    """
    known = (*PARAMETERS, *also)
    unknown = [name for name in _assigned(namespace.get("In", ())) if name not in known]
    if unknown:
        raise ValueError(f"parameters: expected some of {', '.join(known)}, got {', '.join(unknown)}; correct the name")
    given = {name: namespace[name] for name in PARAMETERS if name in namespace}
    return Chapter(**given, data_root=data_root(str(namespace.get("data_root") or "")))


def _assigned(cells: Sequence[str]) -> list[str]:
    """Names assigned in the parameters cell and in the one that papermill injects: both open with '# Parameters'."""
    names = []
    for cell in cells:
        if cell.startswith("# Parameters"):
            for statement in ast.parse(cell).body:
                targets = statement.targets if isinstance(statement, ast.Assign) else ()
                names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def show(draw: Callable[..., Figure], *needs: Any, photographs: bool = False, **options: Any) -> None:
    """Draw a figure from what it needs, in the book's look; a line says so where nothing of it is there.

    >>> show(figures.error_against_radius, complexity)  # doctest: +SKIP

    Args:
        needs: what it is drawn from, in its order; `Results` enter as their table, everything else as it is. None,
            results without a record and what is empty count as not there.
        photographs: whether it shows some, and needs all colours.
    Side effects:
        Displays the figure (PNG, for phones with its panels stacked, or JPEG for photographs, sharp at twice the
        size) and closes it.
    """
    if any(map(_absent, needs)):
        names = " and ".join(need.name for need in needs if isinstance(need, Results) and not need)
        display(box("Not drawn:", f"runs of <em>{names}</em> are missing." if names else "its runs are missing."))
        return
    given = [need.table if isinstance(need, Results) else need for need in needs]
    drawn = functools.partial(draw, *given, **options)
    display(Image(photograph(drawn)) if photographs else drawing(drawn))


def say(tell: Callable[[], str], *results: Results) -> None:
    """Display a sentence (Markdown) that reads numbers from results; a line names the run that it lacks.

    Args:
        results: what it reads; nothing is said where one of them holds no record.
    """
    if all(results):
        try:
            display(Markdown(tell()))
        except NotOnRecord as lacking:
            display(box("Not said:", html.escape(str(lacking))))


def show_finding(code: Callable[..., Any], tell: Callable[[], str], *results: Results) -> None:
    """Say below a figure what it shows, from which records, and which function drew it; nothing where it is not drawn.

    In a cell of its own: a cell with a caption makes every one of its outputs a figure.

    Args:
        tell: returns the sentence as plain text, such as `edition.page.finding.finding` does; called only if every
            result has records.
        results: what the figure is drawn from; none where it was computed on the page.
    """
    if not all(results):
        return
    links = ", ".join(f'<a href="records.html#{item.name}">{item.name}</a>' for item in results)
    origin = f"Records: {links}" if results else "Computed on this page"
    try:
        told = tell()
    except NotOnRecord as lacking:
        told = f"Not said: {lacking}."
    display(
        HTML(f'<p class="finding">{html.escape(told)}</p><p class="source">{origin}; drawn by {source_link(code)}.</p>')
    )


def show_source(code: Callable[..., Any]) -> None:
    """Display the source of a function as it runs, its docstring cut to the first line, with the module it lives in."""
    lines = textwrap.dedent(inspect.getsource(code)).rstrip().splitlines()
    docstring = ast.parse("\n".join(lines)).body[0].body[0]  # type: ignore[attr-defined]
    if inspect.getdoc(code) and docstring.end_lineno > docstring.lineno:
        first = lines[docstring.lineno - 1]
        lines[docstring.lineno - 1 : docstring.end_lineno] = [f'{first}"""']
    told = "\n".join(lines)
    display(Markdown(f"```python\n{told}\n```\n\n*From* {source_link(code, code.__module__)}."))


def _absent(need: Any) -> bool:
    """Whether there is nothing to draw: None, results without a record, an empty table, list or mapping."""
    if need is None or (isinstance(need, Results) and not need):
        return True
    return isinstance(need, Sized) and not isinstance(need, str) and len(need) == 0
