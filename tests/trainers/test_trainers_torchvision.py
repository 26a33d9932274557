"""SAM in a loop as torchvision's references have it: criterion, autocast, scaler, clipping, moving average, resume."""

from functools import partial
from pathlib import Path

import plain_loop
import pytest
import torch
from torch import nn


def train_one_epoch(model, criterion, optimizer, scheduler, scaler, average, way):
    """Their function, with what SAM adds: one more pass, and the ascent between."""
    model.train()
    for image, target in plain_loop.loader():

        def backward(image=image, target=target):
            with plain_loop.cast(way):
                loss = criterion(model(image), target)
            scaler.scale(loss).backward()

        optimizer.zero_grad()
        backward()
        optimizer.ascent_step(allow_overflow=True)
        backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), plain_loop.CLIP)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        average.update_parameters(model)


def train(way: plain_loop.Way, model: nn.Module, folder: Path, first: int, last: int, *, scaled: bool) -> None:
    optimizer, scheduler = plain_loop.new_sam(model)
    scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=256.0)
    average = torch.optim.swa_utils.AveragedModel(model)
    parts = {"model": model, "optimizer": optimizer, "lr_scheduler": scheduler, "scaler": scaler, "model_ema": average}
    if first:
        for name, saved in torch.load(folder / "checkpoint.pth", weights_only=True).items():
            parts[name].load_state_dict(saved)
    for _ in range(first, last):
        train_one_epoch(model, nn.CrossEntropyLoss(), optimizer, scheduler, scaler, average, way)
    torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "checkpoint.pth")


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["plain", "bf16"])
def test_torchvisions_loop_equals_the_plain_one(name, scaled, stop, tmp_path):
    plain_loop.assert_equals_the_plain_loop(plain_loop.WAYS[name], partial(train, scaled=scaled), tmp_path, stop)
