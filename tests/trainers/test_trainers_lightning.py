"""SAM in Lightning: its closures, clipping, rates by step, precision, checkpoints; accumulation in manual mode."""

from pathlib import Path

import plain_loop
import pytest
from plain_loop import CLIP
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

lightning = plain_loop.required("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
OPTIONS = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False}  # fmt: skip


class Automatic(lightning.LightningModule):
    """As their documentation has it: Lightning makes the closure, SAM runs it twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch, index):
        inputs, targets = batch
        return cross_entropy(self.model(inputs), targets)

    def configure_optimizers(self):
        sam, scheduler = plain_loop.new_sam(self.model)
        return {"optimizer": sam, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


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


def train(way: plain_loop.Way, model: nn.Module, folder: Path, first: int, last: int) -> None:
    whole = way.accumulate == 1
    batches = list(plain_loop.windows(plain_loop.loader(), way.accumulate))
    trainer = lightning.Trainer(
        max_epochs=last,
        gradient_clip_val=CLIP if whole else None,
        precision="bf16-mixed" if way.bf16 else "32-true",
        default_root_dir=folder,
        **OPTIONS,
    )
    trainer.fit(
        Automatic(model) if whole else Manual(model),
        plain_loop.loader() if whole else DataLoader(batches, batch_size=None),
        **({"ckpt_path": folder / "last.ckpt", "weights_only": True} if first else {}),
    )
    trainer.save_checkpoint(folder / "last.ckpt")


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("way", plain_loop.WAYS.values(), ids=plain_loop.WAYS)
def test_lightning_equals_the_plain_loop(way, stop, tmp_path):
    plain_loop.assert_equals_the_plain_loop(way, train, tmp_path, stop)


def test_lightnings_own_accumulation_warns_that_earlier_gradients_are_dropped(tmp_path):
    trainer = lightning.Trainer(max_epochs=1, accumulate_grad_batches=2, default_root_dir=tmp_path, **OPTIONS)
    with pytest.warns(UserWarning, match="To accumulate, run backward on all microbatches in the closure"):
        trainer.fit(Automatic(nn.Linear(3, 2)), plain_loop.loader())
