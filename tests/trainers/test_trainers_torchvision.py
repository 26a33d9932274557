"""SAM in a loop as torchvision's references have it: criterion, autocast, scaler, clipping, moving average, resume."""

from pathlib import Path

import pytest
import torch
from plain_loop import (
    CLIP,
    N_EPOCHS,
    WAYS,
    Way,
    assert_equals_the_plain_loop,
    cast,
    forget,
    loader,
    new_sam,
    new_scheduler,
)
from torch import nn


def train_one_epoch(model, criterion, optimizer, scheduler, scaler, average, way):
    """Their function, with what SAM adds: one more pass, and the ascent between."""
    model.train()
    for image, target in loader():

        def backward(image=image, target=target):
            with cast(way):
                loss = criterion(model(image), target)
            scaler.scale(loss).backward()

        optimizer.zero_grad()
        backward()
        optimizer.ascent_step(allow_overflow=True)
        backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        average.update_parameters(model)


def train(way: Way, model: nn.Module, folder: Path, *, scaled: bool, stop: int) -> nn.Module:
    """Train, and be killed after some epochs: the rest is another process's, from the checkpoint."""
    for first, last in ((0, stop), (stop, N_EPOCHS)):
        optimizer = new_sam(model)
        scheduler, scaler = new_scheduler(optimizer), torch.amp.GradScaler("cpu", enabled=scaled, init_scale=256.0)
        average = torch.optim.swa_utils.AveragedModel(model)
        if first:
            checkpoint = torch.load(folder / "checkpoint.pth", weights_only=True)
            model.load_state_dict(checkpoint["model"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            scheduler.load_state_dict(checkpoint["lr_scheduler"])
            scaler.load_state_dict(checkpoint["scaler"])
            average.load_state_dict(checkpoint["model_ema"])
        for _ in range(first, last):
            train_one_epoch(model, nn.CrossEntropyLoss(), optimizer, scheduler, scaler, average, way)
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": scheduler.state_dict(),
            "scaler": scaler.state_dict(),
            "model_ema": average.state_dict(),
        }
        torch.save(checkpoint, folder / "checkpoint.pth")
        if last < N_EPOCHS:
            forget(model)
    return model


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["plain", "bf16"])
def test_torchvisions_loop_equals_the_plain_one(name, scaled, stop, tmp_path):
    assert_equals_the_plain_loop(WAYS[name], lambda way, model: train(way, model, tmp_path, scaled=scaled, stop=stop))
