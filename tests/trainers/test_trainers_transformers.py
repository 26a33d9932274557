"""SAM in Hugging Face's Trainer: a subclass of eight lines; clipping, rates, precision, checkpoints are its own."""

from pathlib import Path

import plain_loop
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

transformers = plain_loop.required("transformers")
plain_loop.required("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


class SAMTrainer(transformers.Trainer):
    """The Trainer's step(), which has no closure, is the descent; the ascent follows a step's last microbatch."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.seen = [*getattr(self, "seen", []), inputs]
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.optimizer.optimizer.ascent_step()  # of the SAM in Accelerate's wrapper
            for each in self.seen:
                super().training_step(model, each, num_items_in_batch)
            self.seen = []
        return loss

    def get_train_dataloader(self):
        return self.accelerator.prepare(
            torch.utils.data.DataLoader(self.train_dataset, batch_size=plain_loop.BATCH, collate_fn=self.data_collator)
        )


class Classifier(nn.Module):
    """A network with the names and results that the Trainer asks for."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.body(inputs)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    inputs, labels = zip(*rows, strict=True)
    return {"inputs": torch.stack(inputs), "labels": torch.stack(labels)}


def train(way: plain_loop.Way, model: nn.Module, folder: Path, first: int, last: int) -> None:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=last,
        per_device_train_batch_size=plain_loop.BATCH,
        gradient_accumulation_steps=way.accumulate,
        max_grad_norm=plain_loop.CLIP,
        bf16=way.bf16,
        use_cpu=True,
        save_strategy="epoch",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    classifier = Classifier(model)
    trainer = SAMTrainer(
        classifier,
        arguments,
        data_collator=collate,
        train_dataset=plain_loop.rows(),
        optimizers=plain_loop.new_sam(classifier),
    )
    trainer.train(resume_from_checkpoint=True if first else None)


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("way", plain_loop.WAYS.values(), ids=plain_loop.WAYS)
def test_the_trainer_equals_the_plain_loop(way, stop, tmp_path):
    plain_loop.assert_equals_the_plain_loop(way, train, tmp_path, stop)
