"""The reference: docstrings become reStructuredText without loss, and names in code lead to it."""

import inspect
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace

import docutils.core
from docutils import nodes

import samlib
from edition.publish.api import link_names, skip_fields, to_rst
from samlib.measures.probe import FrozenFeatures
from samlib.optim import SAM

PACKAGES = ("samlib.optim", "samlib.theory")  # whose own entry lists what they export
ROOT = Path(__file__).resolve().parent.parent


def render(text: str) -> str:
    """HTML; anything that docutils would warn of is an error."""
    settings = {"halt_level": 2, "report_level": 5, "raw_enabled": False}
    return docutils.core.publish_parts(text, writer_name="html5", settings_overrides=settings)["body"]


def test_every_module_of_the_library_is_on_a_page_once():
    pages = "".join(path.read_text() for path in (ROOT / "book").glob("api*.md"))
    modules = {
        entry.name
        for entry in pkgutil.walk_packages(samlib.__path__, "samlib.")
        if not entry.ispkg and not entry.name.startswith(PACKAGES) and not entry.name.endswith("__main__")
    }
    assert sorted(re.findall(r"automodule:: (\S+)", pages)) == sorted({*PACKAGES, *modules})


def test_a_named_tuples_fields_are_told_by_its_class_alone():
    assert skip_fields(None, "class", "features", FrozenFeatures.features, False, None) is True
    assert skip_fields(None, "class", "step", SAM.step, False, None) is None


def test_arguments_recipes_and_examples_keep_their_kind():
    page = render(to_rst(inspect.getdoc(SAM)))
    assert '<span class="docutils literal">check_finite</span>' in page
    assert "scaler.step(sam)" in page and "<pre" in page
    assert "&gt;&gt;&gt; sam.step(closure), w.data" in page


def test_what_looks_like_markup_in_prose_is_shown_as_it_stands():
    assert "2 * a_ and |w| and *b*" in render(to_rst("2 * a_ and |w| and *b*."))


def test_names_that_a_page_imports_lead_to_the_reference_and_others_do_not():
    objects = [("samlib.optim.SAM", "", "class", "book/api", "samlib.optim.SAM", 1)]
    app = SimpleNamespace(
        env=SimpleNamespace(get_domain=lambda _: SimpleNamespace(get_objects=lambda: objects)),
        builder=SimpleNamespace(get_relative_uri=lambda page, to: "api.html"),
    )
    text = "from samlib.optim import SAM\nSAM(LSAM)"
    page = nodes.document("", "")
    page += nodes.literal_block(text, text)
    context = {"body": '<span class="n">SAM</span>(<span class="n">LSAM</span>)'}
    link_names(app, "book/loop", "", context, page)
    linked = '<a class="reference" href="api.html#samlib.optim.SAM"><span class="n">SAM</span></a>'
    assert context["body"] == linked + '(<span class="n">LSAM</span>)'
