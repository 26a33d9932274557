"""Appendix F from the files to the rows: a tiny set of four domains in PACS's layout, prepared, trained on, probed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from judging import judge, results
from PIL import Image

from data_scripts.prepare import prepare
from edition.claims.domainbed import transfer_table
from edition.records.store import Store
from edition.runs import Run, pending, start
from samlib.images.catalogue import DOMAINS
from samlib.images.config import DomainConfig

PACS = tuple(DOMAINS["pacs"].domains)
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
TINY = DomainConfig(stored_size=16, image_size=16, backbone="smallnet", batch_per_domain=8, n_epochs=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with images whose brightness tells the class, each domain with a tint of its own, prepared."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for d, domain in enumerate(PACS):
        for c, name in enumerate(CLASSES):
            (folder := root / "PACS" / domain / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 40, (16, 16, 3), dtype=np.uint8) + np.uint8(30 * c)
                pixels[..., d % 3] //= 1 + d
                Image.fromarray(pixels).save(folder / f"pic_{i:03d}.png")
    prepare("pacs", root, size=16)
    return root


def trial(target: str) -> list[Run]:
    """The features without training, SGD and SAM at one setting."""
    changes = ({"n_epochs": 0}, {"rho": 0.0}, {"rho": 0.05})
    return [Run("domainbed", dataclasses.replace(TINY, target=target, **values)) for values in changes]


def test_four_domains_go_from_files_to_rows_and_a_verdict(root, tmp_path):
    needed = [run for target in PACS for run in trial(target)]
    store = Store(tmp_path)
    summary = start(needed, store, device="cpu", data_root=root)
    assert not summary.failed and not pending(needed, store)
    records = [store.find(run.kind, run.config) for run in needed]
    for record in records:
        assert record.metrics["coverage"] == "subset" and record.metrics["n_classes"] == 7
        assert record.metrics["n_probe_train"] + record.metrics["n_test"] == 28
        assert record.provenance["versions"] and record.provenance["device"]
    table = transfer_table(records)
    assert table.target.tolist() == list(PACS) and (table.rho == 0.05).all()
    (effect,) = judge("domainbed-pacs-improved", results(records)).effects
    assert effect.value.n == 1 and effect.value.mean == pytest.approx(100 * (table.sam - table.sgd).mean())


def test_a_run_without_its_images_says_what_to_run(tmp_path):
    summary = start([trial("photo")[1]], Store(tmp_path), device="cpu", data_root=tmp_path)
    (error,) = summary.failed.values()
    assert "data_scripts.prepare pacs --size 16" in str(error)
