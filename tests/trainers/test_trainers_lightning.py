"""SAM in Lightning: its closures, clipping, rates by step, precision, checkpoints; accumulation in manual mode."""

from pathlib import Path

import pytest
from plain_loop import (
    CLIP,
    LR,
    N_EPOCHS,
    RHO,
    WAYS,
    Way,
    assert_equals_the_plain_loop,
    forget,
    loader,
    new_scheduler,
    windows,
)
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from trainer import required

from samlib.optim import SAM

lightning = required("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


class Automatic(lightning.LightningModule):
    """As their documentation has it: Lightning makes the closure, SAM runs it twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch, index):
        inputs, targets = batch
        return cross_entropy(self.model(inputs), targets)

    def configure_optimizers(self):
        sam = SAM(self.model.parameters(), optim.SGD, rho=RHO, lr=LR, momentum=0.9, module=self.model)
        return {"optimizer": sam, "lr_scheduler": {"scheduler": new_scheduler(sam), "interval": "step"}}


class Manual(Automatic):
    """Accumulation: a batch is a list of microbatches, and the closure runs them all."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.automatic_optimization = False

    def training_step(self, batch, index):
        sam = self.optimizers()

        def closure():
            sam.zero_grad()
            for inputs, targets in batch:
                self.manual_backward(cross_entropy(self.model(inputs), targets) / len(batch))
            self.clip_gradients(sam, gradient_clip_val=CLIP, gradient_clip_algorithm="norm")

        sam.step(closure=closure)
        self.lr_schedulers().step()


def train(way: Way, model: nn.Module, folder: Path, stop: int) -> nn.Module:
    """Train some epochs, then go on from Lightning's checkpoint with everything new."""
    batches = loader()
    if way.accumulate > 1:
        batches = DataLoader(list(windows(loader(), way.accumulate)), batch_size=None)
    for epochs, checkpoint in ((stop, None), (N_EPOCHS, folder / "last.ckpt")):
        module = (Automatic if way.accumulate == 1 else Manual)(model)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            gradient_clip_val=CLIP if way.accumulate == 1 else None,
            precision="bf16-mixed" if way.bf16 else "32-true",
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, batches, ckpt_path=checkpoint, **({} if checkpoint is None else {"weights_only": True}))
        trainer.save_checkpoint(folder / "last.ckpt")
        if epochs < N_EPOCHS:
            forget(model)
    return model


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("name", WAYS)
def test_lightning_equals_the_plain_loop(name, stop, tmp_path):
    assert_equals_the_plain_loop(WAYS[name], lambda way, model: train(way, model, tmp_path, stop))


def test_lightnings_own_accumulation_warns_that_earlier_gradients_are_dropped(tmp_path):
    trainer = lightning.Trainer(
        max_epochs=1, accumulate_grad_batches=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="To accumulate, run backward on all microbatches in the closure"):
        trainer.fit(Automatic(nn.Linear(3, 2)), loader())
