"""Stored outputs of the frozen part: equal to computing them, computed once, and never half a file."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from samlib.files import temporary_prefix
from samlib.images.activations import stored_activations
from samlib.images.augment import centre_view
from samlib.images.backbones import Backbone, build_backbone
from samlib.images.image_sets import PreparedSet
from samlib.images.views import ActivationViews
from samlib.streams import stream

ROWS = torch.tensor([5, 0, 39, 7, *range(10, 39)])  # more than one chunk
SIZE = 8


@pytest.fixture
def data() -> PreparedSet:
    images = torch.randint(0, 256, (40, 11, 11, 3), generator=stream(0, "images")).to(torch.uint8).numpy()
    return PreparedSet("made up", images, pd.DataFrame(), "0" * 64, "full")


class Counted:
    """A backbone, and the number of images that went through its frozen part."""

    def __init__(self, seed: int = 0) -> None:
        self.backbone = build_backbone("smallnet", n_classes=2, trained="last block", seed=seed)
        self.images = 0
        self.backbone.lower.register_forward_hook(self._count)

    def _count(self, module: torch.nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
        self.images += len(outputs)

    def stored(
        self, data: PreparedSet, folder: Path | None, *, rows: Tensor = ROWS, size: int = SIZE, mirrored: bool = False
    ) -> Tensor:
        return stored_activations(data, rows, self.backbone, image_size=size, mirrored=mirrored, folder=folder)


@torch.no_grad()
def direct(data: PreparedSet, backbone: Backbone, *, mirrored: bool = False) -> Tensor:
    """One image after another."""
    images = torch.from_numpy(data.images)
    if mirrored:
        images = images[:, :, 1 : 1 + SIZE].flip(2)  # the middle columns, mirrored: no column is cut any more
        images = torch.nn.functional.pad(images, (0, 0, 1, 2))
    return torch.cat([backbone.lower(centre_view(images[row : row + 1], SIZE)) for row in ROWS.tolist()])


def files(folder: Path) -> list[Path]:
    return list((folder / "activations").glob("*.npy"))


@pytest.mark.parametrize("mirrored", [False, True])
def test_stored_equals_computed(mirrored: bool, data: PreparedSet, tmp_path: Path) -> None:
    counted = Counted()
    expected = direct(data, counted.backbone, mirrored=mirrored)
    counted.images = 0
    results = [counted.stored(data, folder, mirrored=mirrored) for folder in (None, tmp_path, tmp_path)]
    assert counted.images == 2 * len(ROWS)  # not the third time
    for result in results:
        assert result.dtype == torch.float16 and result.shape == (33, 16, 2, 2) and result.is_contiguous()
        torch.testing.assert_close(result.float(), expected, rtol=1e-3, atol=1e-4)
        assert torch.equal(result, results[0])
    assert expected.std() > 0.1
    results[2].zero_()  # a copy: the file is not written to
    assert np.array_equal(np.load(files(tmp_path)[0]), results[0])


def test_a_run_draws_the_activations_of_each_crop_or_of_its_mirror_image(data: PreparedSet) -> None:
    counted, places = Counted(), torch.tensor([3, 0, 7, 7, 20, 32])
    views = ActivationViews(data, ROWS, counted.backbone, size=SIZE, mirrored=True, folder=None, device="cpu")
    plain, mirrored = (counted.stored(data, None, mirrored=view).float()[places] for view in (False, True))
    assert torch.equal(views.plain(places), plain)
    turned = torch.randint(2, (6, 1, 1, 1), generator=stream(0, "augmentation")).bool()
    assert 0 < turned.sum() < 6
    assert torch.equal(views.augmented(places, stream(0, "augmentation")), torch.where(turned, mirrored, plain))


def test_whatever_decides_the_outputs_is_in_the_name_and_what_is_trained_is_not(
    data: PreparedSet, tmp_path: Path
) -> None:
    counted, changed = Counted(), dataclasses.replace(data, images_sha256="1" * 64)
    counted.stored(data, tmp_path)
    counted.stored(data, tmp_path, mirrored=True)
    counted.stored(data, tmp_path, size=7)
    counted.stored(data, tmp_path, rows=ROWS.flip(0))
    counted.stored(changed, tmp_path)
    Counted(seed=1).stored(data, tmp_path)
    assert len(files(tmp_path)) == 6
    with torch.no_grad():
        for parameter in (*counted.backbone.trunk.parameters(), *counted.backbone.head.parameters()):
            parameter.add_(1)
    counted.stored(data, tmp_path)
    assert len(files(tmp_path)) == 6


def test_damaged_file_is_computed_again(data: PreparedSet, tmp_path: Path) -> None:
    counted = Counted()
    expected = counted.stored(data, tmp_path)
    (path,) = files(tmp_path)
    whole = path.read_bytes()

    def with_other_byte(i: int) -> bytes:
        return whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :]

    places = (0, 20, len(whole) // 2, len(whole) - 1)  # format, shape, values, checksum
    damaged = [b"", whole[:5], whole[:-1], whole + b"x", *map(with_other_byte, places)]
    for i, contents in enumerate(damaged, start=2):
        path.write_bytes(contents)
        assert torch.equal(counted.stored(data, tmp_path), expected)
        assert counted.images == i * len(ROWS)
        assert path.read_bytes() == whole


def test_several_at_once_compute_once(data: PreparedSet, tmp_path: Path) -> None:
    counted = Counted()
    ready = threading.Barrier(4)
    results: list[Tensor] = []

    def work() -> None:
        ready.wait()
        results.append(counted.stored(data, tmp_path))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(torch.equal(result, results[0]) for result in results)
    assert counted.images == len(ROWS)


def test_no_folder_or_a_full_disk_costs_the_file_and_nothing_else(
    data: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    counted, file = Counted(), tmp_path / "file"
    expected = counted.stored(data, None)
    file.write_text("no folder")
    assert torch.equal(counted.stored(data, file), expected)
    assert file.read_text() == "no folder"
    monkeypatch.setattr("os.fsync", full)
    assert torch.equal(counted.stored(data, tmp_path), expected)
    assert counted.images == 3 * len(ROWS)
    assert {path.suffix for path in (tmp_path / "activations").iterdir()} <= {".lock"}


def test_what_a_killed_writer_left_is_removed(data: PreparedSet, tmp_path: Path) -> None:
    counted = Counted()
    counted.stored(data, tmp_path)
    (path,) = files(tmp_path)
    path.unlink()
    leftover = path.with_name(f"{temporary_prefix(path)}abc")
    leftover.write_bytes(b"half")
    counted.stored(data, tmp_path)
    assert path.exists() and not leftover.exists()
