"""Notebooks as data: join a source with its executed outputs, and strip what differs from run to run."""

import copy
from typing import Any

from nbformat import NotebookNode

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}
RUN_METADATA = ("papermill", "execution", "widgets", "collapsed", "scrolled")


def is_injected(cell: NotebookNode) -> bool:
    """Say whether papermill added this cell to pass parameters."""
    return "injected-parameters" in cell.metadata.get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """List a notebook's own code cells, in order (views)."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and not is_injected(cell)]


def merge_outputs(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Give the source's code cells the outputs of an execution of the same code.

    Prose, captions and metadata are the source's, so that a chapter whose code did not change is not executed
    again. A parameters cell that papermill injected is kept where it ran: the page shows what was executed.

    Returns:
        A new notebook; neither argument is changed.
    Raises:
        ValueError: the two do not hold the same code.
    """
    ours, theirs = code_cells(source), code_cells(executed)
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        raise ValueError(
            f"expected an execution of the chapter's {len(ours)} code cells, got {len(theirs)} cells that "
            "differ in count or text; execute the chapter again"
        )
    merged = copy.deepcopy(source)
    cells, remaining = [], iter(copy.deepcopy(executed.cells))
    for cell in merged.cells:
        if cell.cell_type == "code":
            for ran in remaining:
                if ran.cell_type == "code" and not is_injected(ran):
                    cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
                    break
                cells += [ran] if is_injected(ran) else []
        cells.append(cell)
    merged.cells = cells
    return merged


def clean_notebook(notebook: NotebookNode) -> NotebookNode:
    """Strip what a reader does not need and what differs from run to run; keep results.

    Kept: cell ids, execution counts, standard output, results, figures. Stripped: papermill's and the
    kernel's timing metadata, widget state, widget views (their static frames stay), and standard error with
    its progress bars.

    Returns:
        A new notebook; the argument is not changed.
    """
    cleaned = copy.deepcopy(notebook)
    for key in ("papermill", "widgets"):
        cleaned.metadata.pop(key, None)
    cleaned.metadata["kernelspec"] = NotebookNode(KERNELSPEC)
    cleaned.metadata["language_info"] = NotebookNode(LANGUAGE)
    for cell in cleaned.cells:
        for key in RUN_METADATA:
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_clean_output, cell.outputs) if output is not None]
    return cleaned


def _clean_output(output: Any) -> Any:
    """Return the output without widget views and terminal rewrites, or None where nothing remains."""
    if output.output_type == "stream":
        return None if output.name == "stderr" else _last_lines(output)
    data = output.get("data", {})
    output.get("metadata", {}).pop(WIDGET_VIEW, None)
    if data.pop(WIDGET_VIEW, None) is None:
        return output
    return output if set(data) - {"text/plain"} else None


def _last_lines(output: Any) -> Any:
    """Keep of each line of a stream what a terminal would show after its carriage returns."""
    lines = output.text.replace("\r\n", "\n").split("\n")
    output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
    return output
