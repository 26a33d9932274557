"""A slider over a figure, from one pure function: frames that need neither kernel nor network."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from edition.figures import NARROW
from edition.figures.narrow import stack
from edition.figures.style import style

AIM_BYTES = 60_000  # a frame: larger ones get fewer colours, so that a page of frames stays within a megabyte or two
QUICK: dict[str, Any] = {"format": "png", "pil_kwargs": {"compress_level": 1}}  # `_reduced` compresses it again
DPI = 200  # two pixels of the image for each pixel of the page

# One script a block. It looks up every block with its identifier: the same one may stand twice on a page.
_SCRIPT = """<script>
(() => {
  for (const box of document.querySelectorAll('[id="%s"]')) {
    const input = box.querySelector("input");
    const images = box.querySelectorAll("img");
    const show = () => {
      const text = JSON.parse(input.dataset.texts)[Number(input.value)];
      input.setAttribute("aria-valuetext", text);
      input.nextElementSibling.value = text;
      images.forEach((image, i) => { image.hidden = i !== Number(input.value); });
    };
    input.addEventListener("input", show);
    show();
  }
})();
</script>"""


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
    """A slider over pictures, one for each of its positions.

    Attributes:
        label: what the slider changes.
        texts: what it says at each position.
        pictures: what is shown there.
    """

    label: str
    texts: tuple[str, ...]
    pictures: tuple[Picture, ...]

    def html(self) -> str:
        """Return the slider as a native range input over hidden images, with a script of a few lines.

        The same frames give the same text, byte for byte; without scripts the first picture stays visible. A slider of
        a single position has nothing to slide: it is there for the script and not shown. JupyterLab leaves the arrow
        keys to an input that asks for them.
        """
        images = "".join(picture.html(hidden=i > 0) for i, picture in enumerate(self.pictures))
        name = "frames-" + hashlib.sha256(f"{self.label}{self.texts}{images}".encode()).hexdigest()[:12]
        first, texts = html.escape(self.texts[0]), html.escape(json.dumps(self.texts))
        return (
            f'<div class="frames" id="{name}"><div{" hidden" * (len(self.texts) == 1)}>'
            f'<label for="{name}-input">{html.escape(self.label)}</label> '
            f'<input type="range" id="{name}-input" min="0" max="{len(self.texts) - 1}" step="1" value="0" '
            f'autocomplete="off" data-lm-suppress-shortcuts="true" style="vertical-align:middle" '
            f'aria-valuetext="{first}" data-texts="{texts}">'
            f'<output for="{name}-input">{first}</output></div><figure>{images}</figure></div>{_SCRIPT % name}'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/html": self.html(), "text/plain": f"{self.label}: {len(self.pictures)} frames"}


def slider(draw: Callable[[str], Figure], label: str, texts: Sequence[str], *, alt: Callable[[str], str]) -> Frames:
    """Draw one figure for each position of a slider and put the slider over them.

    Args:
        draw: makes the figure of a position from its text; called once each, in the book's look.
        texts: its positions, in order.
        alt: describes the figure to those who cannot see it; called as `draw` is.
    Raises:
        ValueError: no position, or an empty label or description.
        TypeError: `draw` returns no figure.
    """
    if not texts:
        raise ValueError(f"{label}: expected one or more values, got none; give the slider its positions")
    if not label.strip():
        raise ValueError(f"label: expected what the slider changes, got {label!r}; name it for those who cannot see it")
    return Frames(label, tuple(texts), tuple(picture(partial(draw, text), alt(text)) for text in texts))


def picture(draw: Callable[[], Figure], alt: str) -> Picture:
    """Draw a figure in the book's look and keep it as a small PNG file that depends on nothing but the figure.

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

    Raises and Side effects as in `picture`.
    """
    files, _ = _saved(draw, stacked=True, **QUICK)
    return Drawing(_reduced(files[0]), _reduced(files[1]) if len(files) > 1 else None)


def photograph(draw: Callable[[], Figure]) -> bytes:
    """Draw a figure that shows photographs, in the book's look, as a JPEG file: a small palette would flatten them.

    Raises and Side effects as in `picture`.
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
