"""What tells the kinds of runs apart when they are planned: cost, company, and whether they keep their state.

How a kind is recorded stands in `samlib.records`, how it is trained in `samlib.runs.work`.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from samlib.controls.config import ControlConfig
from samlib.domainbed.config import DomainConfig
from samlib.finetune.config import FinetuneConfig
from samlib.toy.config import ToyConfig
from samlib.vision.config import PairConfig

# A pair's probes and error measurements, in images trained on; those after an epoch, too.
MEASUREMENT = 20_000
EPOCH_MEASUREMENT = 2_500
# Images that a finetuned network sees beside those it is trained on: the lower part's activations or the final
# measurement once; validation and probes after each epoch; importance weights at one epoch.
FINETUNE_MEASUREMENT = 20_000
FINETUNE_EPOCH = 1_000
FINETUNE_PROBE = 1_500
READING_PASSES = 60  # under every reading of the phantom: seven passes each, the single images' slow ones


class Kind(NamedTuple):
    """One kind of run, as the planning code sees it.

    Attributes:
        work: amount of work of a configuration: what its seconds are proportional to.
        rate: what configurations share whose seconds per unit of work are alike.
        seconds: per unit of work where no record tells: one core of an ordinary processor, on the safe side.
        networks: how many networks a configuration trains.
        at_once: networks trained in one computation, by device: a GPU is idle with fewer. On a CPU every run is
            alone: it gains nothing from company, and is kept as soon as it is done.
        checkpointed: whether its state is saved after each epoch.
    """

    work: Callable[[Any], float]
    rate: Callable[[Any], Hashable]
    seconds: float
    networks: Callable[[Any], int]
    at_once: Callable[[Any, str], int]
    checkpointed: bool


def _toy_work(config: ToyConfig) -> float:
    """Multiplications, about."""
    return len(config.seeds) * config.n_steps * (config.batch_size + 2) * (config.hidden + 20) ** 2


def _pair_work(config: PairConfig) -> float:
    """Images passed through the network."""
    measured = MEASUREMENT + config.n_epochs * EPOCH_MEASUREMENT * config.probe_each_epoch
    return config.n_images * config.n_epochs * _passes(config.rho) + measured


def _finetune_work(config: FinetuneConfig) -> float:
    """Images passed through the network."""
    epoch = FINETUNE_EPOCH + FINETUNE_PROBE * config.probe_each_epoch
    passes = READING_PASSES if config.phantom_readings else 3
    weighed = passes * config.n_importance * len(config.importance_epochs)
    trained = config.n_images * config.n_epochs * _passes(config.rho)
    return trained + config.n_epochs * epoch + weighed + FINETUNE_MEASUREMENT


def _domain_work(config: DomainConfig) -> float:
    """Images passed through the network."""
    return config.n_images * config.n_epochs * _passes(config.rho) + FINETUNE_MEASUREMENT


def _control_work(config: ControlConfig) -> float:
    """Steps on the toys, whose seeds go together; on images, images passed through the network."""
    passes = _passes(config.rho) * (1.5 if config.part != "both" else 1)
    if config.stacked:
        chunks = config.batch_size / (config.per_perturbation or config.batch_size)
        return config.n_epochs * config.n_examples / config.batch_size * passes * chunks
    return config.n_epochs * config.n_examples * passes + MEASUREMENT


def _network(config: FinetuneConfig | DomainConfig) -> Hashable:
    """What decides an image's cost."""
    return config.backbone, config.trained, config.image_size


def _passes(rho: float) -> int:
    """Gradients a step: SAM takes two."""
    return 1 if rho == 0 else 2


def _pairs_at_once(config: PairConfig, device: str) -> int:
    """Networks that are probed after each epoch are trained alone: the ensemble does not stop for that."""
    return 64 if device == "cuda" and not config.probe_each_epoch else 1


KINDS = {
    "toy": Kind(
        _toy_work,
        lambda config: (),
        2e-9,
        lambda config: len(config.seeds),
        lambda config, device: 2000 if device == "cuda" else 1,
        checkpointed=False,  # takes seconds
    ),
    "pair": Kind(_pair_work, lambda config: (), 5e-4, lambda config: 1, _pairs_at_once, checkpointed=True),
    "finetune": Kind(
        _finetune_work,
        _network,
        0.02,
        lambda config: 1,
        lambda config, device: 1,
        checkpointed=True,
    ),
    "domainbed": Kind(
        _domain_work,
        _network,
        0.02,
        lambda config: 1,
        lambda config, device: 1,
        checkpointed=True,
    ),
    "control": Kind(
        _control_work,
        lambda config: config.task,
        2e-3,
        lambda config: 1,  # the seeds of a toy are one computation
        lambda config, device: 1,
        checkpointed=False,  # takes minutes
    ),
}
