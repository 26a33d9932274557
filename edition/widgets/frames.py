"""Sliders over a figure, from one pure function: a live widget, and frames that need neither kernel nor network."""

import base64
import hashlib
import html
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets as widgets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from edition.figures import NARROW
from edition.figures.narrow import stack
from edition.figures.style import style

MAX_FRAMES = 64
AIM_BYTES = 60_000  # a frame: larger ones get fewer colours, so that a page of frames stays within a megabyte or two
QUICK: dict[str, Any] = {"format": "png", "pil_kwargs": {"compress_level": 1}}  # `_reduced` compresses it again
DPI = 200  # two pixels of the image for each pixel of the page

# One script a block. It looks up every block with its identifier: the same one may stand twice on a page.
_SCRIPT = """<script>
(() => {
  for (const box of document.querySelectorAll('[id="%s"]')) {
    const inputs = [...box.querySelectorAll("input")];
    const images = [...box.querySelectorAll("img")];
    const show = () => {
      let frame = 0;
      for (const input of inputs) {
        const text = JSON.parse(input.dataset.texts)[Number(input.value)];
        frame = frame * (Number(input.max) + 1) + Number(input.value);
        input.setAttribute("aria-valuetext", text);
        input.nextElementSibling.value = text;
      }
      images.forEach((image, i) => { image.hidden = i !== frame; });
    };
    inputs.forEach(input => input.addEventListener("input", show));
    show();
  }
})();
</script>"""


@dataclass(frozen=True)
class Slider:
    """One slider: its label, the text of each of its positions, and where it stands first."""

    label: str
    texts: tuple[str, ...]
    initial: int


@dataclass(frozen=True)
class Picture:
    """One figure as a PNG file, with its description and its width in pixels of the page."""

    png: bytes
    alt: str
    width: int
    height: int

    def html(self, *, hidden: bool = False) -> str:
        """Return the picture as an `<img>` element that needs no other file."""
        return (
            f'<img src="data:image/png;base64,{base64.b64encode(self.png).decode()}" alt="{html.escape(self.alt)}" '
            f'width="{self.width}" height="{self.height}" style="max-width:100%;height:auto"{" hidden" * hidden}>'
        )


@dataclass(frozen=True)
class Frames:
    """Sliders and one picture for each combination of their positions, the last slider moving fastest.

    Displayed, it carries two forms of the same pictures: `live` for JupyterLab and `html` for a page.
    """

    sliders: tuple[Slider, ...]
    pictures: tuple[Picture, ...]

    @property
    def initial(self) -> int:
        """Index of the picture that is shown first."""
        return self.index([slider.initial for slider in self.sliders])

    def index(self, positions: Sequence[int]) -> int:
        """Return which picture belongs to these positions of the sliders."""
        found = 0
        for slider, position in zip(self.sliders, positions, strict=True):
            found = found * len(slider.texts) + position
        return found

    def html(self) -> str:
        """Return the sliders as native range inputs over hidden images, with a script of a few lines.

        The same frames give the same text, byte for byte; without scripts the first picture stays visible.
        """
        images = "".join(picture.html(hidden=i != self.initial) for i, picture in enumerate(self.pictures))
        labels = [(slider.label, slider.texts, slider.initial) for slider in self.sliders]
        name = "frames-" + hashlib.sha256(f"{labels}{images}".encode()).hexdigest()[:12]
        inputs = "".join(_range_input(f"{name}-{i}", slider) for i, slider in enumerate(self.sliders))
        return f'<div class="frames" id="{name}">{inputs}<figure>{images}</figure></div>{_SCRIPT % name}'

    def live(self) -> widgets.VBox:
        """Return a new widget whose sliders change its picture; the pictures are those of `html`."""
        selections = [_selection(slider) for slider in self.sliders]
        picture = widgets.HTML(self.pictures[self.initial].html())

        def show(_change: object) -> None:
            picture.value = self.pictures[self.index([selection.index for selection in selections])].html()

        for selection in selections:
            selection.observe(show, "index")
        return widgets.VBox([*selections, picture])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return both forms for one output."""
        return both_forms(self.live(), self)


def both_forms(live: widgets.Widget, frames: Frames) -> dict[str, Any]:
    """Join a live widget and static frames in one output; the page or JupyterLab takes the form it can show."""
    text = f"{', '.join(slider.label for slider in frames.sliders)}: {len(frames.pictures)} frames"
    return {**live._repr_mimebundle_(), "text/html": frames.html(), "text/plain": text}


def sliders(
    draw: Callable[..., Figure],
    values: Mapping[str, Sequence[Any]],
    *,
    initial: Sequence[int] | None = None,
    alt: Callable[..., str],
) -> Frames:
    """Draw one figure per combination of values and put a slider over each kind of value.

    Args:
        draw: makes the figure of a combination, its values in order; called once each, in the book's look.
        values: what a slider says it changes -> its positions, in order; at most `MAX_FRAMES` combinations.
        initial: index of each value that is shown first; None for the first of each.
        alt: describes the figure to those who cannot see it; called as `draw` is.
    Returns:
        An object that Jupyter displays.
    Raises:
        ValueError: no value, too many combinations, no such initial index, or an empty description.
        TypeError: `draw` returns no figure.
    """
    initial = [0] * len(values) if initial is None else initial
    if not values or len(values) != len(initial):
        raise ValueError(
            f"sliders: expected one initial index for each of one or more labels, got labels {list(values)} and "
            f"initial {list(initial)}; give them in the same order"
        )
    parts = [_slider(label, list(own), start) for (label, own), start in zip(values.items(), initial, strict=True)]
    n_frames = math.prod(len(part.texts) for part in parts)
    if n_frames > MAX_FRAMES:
        raise ValueError(
            f"sliders: expected at most {MAX_FRAMES} frames, got {n_frames}; give {', '.join(values)} fewer values"
        )
    combinations = list(itertools.product(*values.values()))
    return Frames(tuple(parts), tuple(picture(partial(draw, *point), alt(*point)) for point in combinations))


def picture(draw: Callable[[], Figure], alt: str) -> Picture:
    """Draw a figure in the book's look and keep it as a small PNG file that depends on nothing but the figure.

    Args:
        draw: makes the figure.
        alt: describes it.
    Returns:
        The picture.
    Raises:
        ValueError: the description is empty.
        TypeError: `draw` returns no figure.
    Side effects:
        None: every figure that `draw` opens is closed again, also where it fails.
    """
    if not alt.strip():
        raise ValueError(f"alt: expected a description of the figure, got {alt!r}; say what the reader would see")
    (buffer, *_), (width, height) = _saved(draw, **QUICK)
    return Picture(_reduced(buffer), alt, width, height)


@dataclass(frozen=True)
class Drawing:
    """A figure as PNG files: as it is, and with its panels stacked for a phone; None where nothing can be stacked."""

    wide: bytes
    narrow: bytes | None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, str]]:
        """Return one output with the first as its picture and the second beside it, which the pages know."""
        wide, narrow = (base64.b64encode(file or b"").decode() for file in (self.wide, self.narrow))
        return {"image/png": wide, "text/plain": "<Figure>"}, {NARROW: narrow} if narrow else {}


def drawing(draw: Callable[[], Figure]) -> Drawing:
    """Draw a figure once and keep it in both forms.

    Args, Raises and Side effects as in `picture`.
    """
    files, _ = _saved(draw, stacked=True, **QUICK)
    return Drawing(_reduced(files[0]), _reduced(files[1]) if len(files) > 1 else None)


def photograph(draw: Callable[[], Figure]) -> bytes:
    """Draw a figure that shows photographs, in the book's look, as a JPEG file: a small palette would flatten them.

    Args, Raises and Side effects as in `picture`.
    """
    return _saved(draw, format="jpeg", pil_kwargs={"quality": 88})[0][0].getvalue()


def _saved(
    draw: Callable[[], Figure], *, stacked: bool = False, **options: Any
) -> tuple[list[io.BytesIO], tuple[int, int]]:
    """Draw and save a figure, stacked too where asked; return the files, and width and height on the page, pixels."""
    before = set(plt.get_fignums())
    files = [io.BytesIO()]
    try:
        with style():
            figure = draw()
            if not isinstance(figure, Figure):
                raise TypeError(f"draw: expected a matplotlib Figure, got {type(figure).__name__}; return the figure")
            figure.savefig(files[0], dpi=DPI, **options)
            width, height = (round(100 * inches) for inches in figure.get_size_inches())
            if stacked and stack(figure):
                files.append(io.BytesIO())
                figure.savefig(files[1], dpi=DPI, **options)
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    return files, (width, height)


def _reduced(file: io.BytesIO) -> bytes:
    """Rewrite a PNG file with a palette, of fewer colours where the file is still large; no metadata is kept.

    The palette is chosen to cover all colours: thin lines keep theirs, which a palette by frequency would shift.
    """
    image = Image.open(file).convert("RGB")
    for n_colours in (256, 128, 64):
        small = io.BytesIO()
        image.quantize(n_colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            small, format="png", optimize=True
        )
        if small.tell() <= AIM_BYTES:
            break
    return small.getvalue()


def _slider(label: str, values: list[Any], initial: int) -> Slider:
    """Check one slider's values and turn them into text."""
    if not values:
        raise ValueError(f"{label}: expected one or more values, got none; give the slider its positions")
    if not label.strip():
        raise ValueError(f"label: expected what the slider changes, got {label!r}; name it for those who cannot see it")
    if not 0 <= initial < len(values):
        raise ValueError(
            f"initial: expected an index from 0 to {len(values) - 1} of {label}, got {initial}; correct it"
        )
    return Slider(label, tuple(_text(value) for value in values), initial)


def _text(value: Any) -> str:
    """Say a value as the slider shows it.

    >>> _text(15000), _text(0.5), _text("both")
    ('15,000', '0.5', 'both')
    """
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _range_input(name: str, slider: Slider) -> str:
    """One labelled range input with its value beside it; the keyboard works, since it is the browser's own.

    A slider of a single value has nothing to slide: it is there for the script and not shown.
    """
    hidden = " hidden" if len(slider.texts) == 1 else ""
    text, texts = html.escape(slider.texts[slider.initial]), html.escape(json.dumps(slider.texts))
    return (
        f'<div{hidden}><label for="{name}">{html.escape(slider.label)}</label> '
        f'<input type="range" id="{name}" min="0" max="{len(slider.texts) - 1}" step="1" value="{slider.initial}" '
        f'autocomplete="off" style="vertical-align:middle" aria-valuetext="{text}" data-texts="{texts}">'
        f'<output for="{name}">{text}</output></div>'
    )


def _selection(slider: Slider) -> widgets.SelectionSlider:
    """One live slider; its options are indices, so that two positions may read alike."""
    return widgets.SelectionSlider(
        options=[(text, index) for index, text in enumerate(slider.texts)],
        value=slider.initial,
        description=slider.label,
        style={"description_width": "initial"},
        layout={"width": "min(100%, 32rem)"},
    )
