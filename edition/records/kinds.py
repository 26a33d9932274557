"""Kinds of runs, one row each: how a kind is addressed, what it costs, how it is trained, what another machine changes.

A new kind is a configuration class, a function here that trains it, and its row in `KINDS`; see `Kind`.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from edition.records.checkpoint import Checkpoint
from samlib.images.config import DomainConfig, FinetuneConfig, PairConfig
from samlib.methods.config import ControlConfig
from samlib.search import RUNS, SearchConfig
from samlib.toy.config import ToyConfig

Report = Callable[[float], None]


class Work(Protocol):
    """What a trainer is told beside the configurations; `edition.runs.work.Job` is one."""

    @property
    def device(self) -> str:
        """Either "cpu" or "cuda"."""

    @property
    def data_root(self) -> Path | None:
        """Folder of the real data sets."""

    @property
    def checkpoint(self) -> Path | None:
        """File for the state of a long run."""

    @property
    def seconds(self) -> float | None:
        """Time limit."""


class Trained(NamedTuple):
    """Name of the engine, (metrics, arrays) of each configuration, seconds of them all, and where, if not as told."""

    engine: str
    results: list[tuple[dict[str, Any], dict[str, np.ndarray]]]
    seconds: float
    device: str = ""


class Kind(NamedTuple):
    """One kind of run.

    Attributes:
        config: class of its configurations, frozen, each field with a default (fields that differ from it are a
            record's address), with a property `shape`: what runs trained in one call share.
        schema: number of what a record of it holds; raised, all its records are stale.
        train: trains configurations of one `shape`, reporting the share that is done, 0..1.
        work: amount of work of a configuration: what its seconds are proportional to.
        seconds: per unit of work where no record tells: one core of an ordinary processor, on the safe side.
        tolerances: what another processor, library or engine may change: the mean over seeds of these metrics,
            absolutely. Rounding differs in the last bit there, and training amplifies it.
        rate: what configurations share whose seconds per unit of work are alike.
        checkpointed: whether its state is saved after each epoch.
        networks: how many networks a configuration trains.
        at_once: networks that a GPU trains in one computation, idle with fewer. On a CPU every run is alone: it gains
            nothing from company, and is kept as soon as it is done.
    """

    config: type
    schema: int
    train: Callable[[Sequence[Any], Work, Report], Trained]
    work: Callable[[Any], float]
    seconds: float
    tolerances: dict[str, float]
    rate: Callable[[Any], Hashable] = lambda config: ()
    checkpointed: bool = True
    networks: Callable[[Any], int] = lambda config: 1
    at_once: int = 1


def _checkpoint(work: Work, report: Report) -> Checkpoint:
    """The state of a long run, whose clock begins here."""
    return Checkpoint(work.checkpoint, device=work.device, seconds=work.seconds, report=report)


def _train_toys(configs: Sequence[ToyConfig], work: Work, report: Report) -> Trained:
    from samlib.toy.training import best_engine, train_toy

    n_steps, done = configs[0].n_steps, 0
    begin = time.perf_counter()

    def progress(steps: int) -> None:
        nonlocal done
        done += steps
        report(done / n_steps)

    engine = best_engine(work.device, n_steps)
    results = train_toy(configs, device=work.device, engine=engine, progress=progress)
    return Trained(engine, [(result.metrics, result.arrays) for result in results], time.perf_counter() - begin)


def _search(configs: Sequence[SearchConfig], work: Work, report: Report) -> Trained:
    from samlib.search import search
    from samlib.toy.training import best_engine

    (config,) = configs
    begin = time.perf_counter()
    engine = best_engine(work.device, config.n_steps)
    found = search(config, device=work.device, engine=engine, report=report)
    return Trained(engine, [found], time.perf_counter() - begin)


def _train_pair(configs: Sequence[PairConfig], work: Work, report: Report) -> Trained:
    from samlib.images.pairs import train_pair
    from samlib.images.tiles import load_pair

    (config,) = configs
    checkpoint = _checkpoint(work, report)
    source = load_pair(config.pair, work.data_root)
    result = train_pair(config, source, device=work.device, checkpoint=checkpoint)
    return Trained("autograd", [(result.metrics, {})], checkpoint.seconds)


def _train_photographs(configs: Sequence[FinetuneConfig | DomainConfig], work: Work, report: Report) -> Trained:
    """Finetune one network on photographs: of one set, or of all domains but one."""
    from samlib.images.domains import train_domains
    from samlib.images.image_sets import load_images
    from samlib.images.photographs import train_finetune

    (config,) = configs
    checkpoint = _checkpoint(work, report)
    data = load_images(config, work.data_root)
    train: Callable[..., Any] = train_domains if isinstance(config, DomainConfig) else train_finetune
    result = train(config, data, folder=work.data_root, device=work.device, checkpoint=checkpoint)
    return Trained("autograd", [(result.metrics, result.arrays)], checkpoint.seconds)


def _train_method(configs: Sequence[ControlConfig], work: Work, report: Report) -> Trained:
    from samlib.methods.train import train_method

    (config,) = configs
    begin = time.perf_counter()
    metrics = train_method(config, root=work.data_root, report=report)
    return Trained("autograd", [(metrics, {})], time.perf_counter() - begin, device="cpu")


# A pair's probes and error measurements, in images trained on; those after an epoch, too.
MEASUREMENT = 20_000
EPOCH_MEASUREMENT = 2_500
# Images that a finetuned network sees beside those it is trained on: the lower part's activations or the final
# measurement once; validation and probes after each epoch; importance weights at one epoch.
FINETUNE_MEASUREMENT = 20_000
FINETUNE_EPOCH = 1_000
FINETUNE_PROBE = 1_500
SMALL_NETWORK = 1 / 200  # an image through the embedded demonstration's network, in images through a pretrained one
READING_PASSES = 60  # under every reading of the phantom: seven passes each, the single images' slow ones


def _toy_work(config: ToyConfig) -> float:
    """Multiplications, about."""
    return len(config.seeds) * config.n_steps * (config.batch_size + 2) * (config.hidden + 20) ** 2


def _search_work(config: SearchConfig) -> float:
    """Steps of networks; which setting a chunk meets decides little, for it meets several."""
    return config.n_settings * len(RUNS) * len(config.seeds) * config.n_steps


def _pair_work(config: PairConfig) -> float:
    """Images passed through the network."""
    measured = MEASUREMENT + config.n_epochs * EPOCH_MEASUREMENT * config.probe_each_epoch
    return config.n_images * config.n_epochs * _passes(config.rho) + measured


def _finetune_work(config: FinetuneConfig) -> float:
    """Images passed through a pretrained network."""
    epoch = FINETUNE_EPOCH + FINETUNE_PROBE * config.probe_each_epoch
    passes = READING_PASSES if config.phantom_readings else 3
    weighed = passes * config.n_importance * len(config.importance_epochs)
    trained = config.n_images * config.n_epochs * _passes(config.rho)
    return (trained + config.n_epochs * epoch + weighed + FINETUNE_MEASUREMENT) * _image(config)


def _domain_work(config: DomainConfig) -> float:
    """Images passed through a pretrained network."""
    return (config.n_images * config.n_epochs * _passes(config.rho) + FINETUNE_MEASUREMENT) * _image(config)


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


def _image(config: FinetuneConfig | DomainConfig) -> float:
    """An image's cost, in images through a pretrained network."""
    return SMALL_NETWORK if config.backbone == "smallnet" else 1


def _passes(rho: float) -> int:
    """Gradients a step: SAM takes two."""
    return 1 if rho == 0 else 2


# The toy's tolerances are three times or more of the largest difference between the batched and the compiled engine
# over 30 runs of the paper's profile (0.022, 0.0016 and 0.0011). Networks on images: a few images of each test set
# more or less, see `edition.runs.verify.FEW_IMAGES`.
IMAGES = {"test_error": 0.02, "validation_error": 0.02, "*_probe_error": 0.04}
KINDS = {
    "toy": Kind(
        ToyConfig,
        1,
        _train_toys,
        _toy_work,
        2e-9,
        {"final_easy_error": 0.07, "final_hard_error": 0.02, "final_test_error": 0.01},
        checkpointed=False,  # takes seconds
        networks=lambda config: len(config.seeds),
        at_once=2000,
    ),
    "search": Kind(
        SearchConfig,
        1,
        _search,
        _search_work,
        3e-5,
        {"premise": 0.2},  # two settings of ten, which are near its bounds
        checkpointed=False,  # a chunk takes minutes
    ),
    "pair": Kind(PairConfig, 1, _train_pair, _pair_work, 5e-4, IMAGES),
    "finetune": Kind(FinetuneConfig, 1, _train_photographs, _finetune_work, 0.02, IMAGES, rate=_network),
    "domainbed": Kind(
        DomainConfig,
        1,
        _train_photographs,
        _domain_work,
        0.02,
        {"validation_error": 0.02, "zero_shot_error": 0.04, "probe_error": 0.04},
        rate=_network,
    ),
    "control": Kind(
        ControlConfig,
        1,
        _train_method,
        _control_work,
        2e-3,
        {"test_error": 0.02, "*_probe_error": 0.07},
        rate=lambda config: config.task,
        checkpointed=False,  # takes minutes
    ),
}
