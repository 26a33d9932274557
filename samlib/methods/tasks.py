"""The tasks of the methods: data, network and errors of the toy, of three mixed features, of image pairs."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samlib.config import check_choice
from samlib.images.backbones import build_backbone
from samlib.images.config import PairConfig
from samlib.images.pairs import measure
from samlib.images.splits import PairSets, pair_sets
from samlib.images.tiles import load_pair
from samlib.images.views import mean_pixel, normalize
from samlib.measures.probe import FrozenFeatures, probe_error
from samlib.methods.config import ControlConfig
from samlib.methods.networks import ImageNetwork, MemberNetwork, MixedNetworks, ToyNetworks
from samlib.shapes import Float, Int64
from samlib.streams import stream
from samlib.toy.config import ToyConfig, ToyData
from samlib.toy.data import sample, spiral
from samlib.toy.training import probing_errors, stack_examples

# Rotations of the three features' spirals, degrees; the first feature is linear. These and the line's scale were chosen
# with SGD alone, on other seeds, so that its probing errors rise from feature to feature.
TURNS = {"line": 0.0, "three_quarter_turn": 270.0, "full_turn": 360.0}
LINE_SCALE = 2.0
N_PROBE = 2000  # examples for training, and as many for testing a probe of the three features
PROBE_STRENGTHS = (1.0, 0.1, 0.01)


class Task(NamedTuple):
    """What training needs.

    Attributes:
        network: with its first weights.
        images: training inputs (member, example, ...), images 0..255.
        labels: (member, example), 0 .. classes - 1.
        mean: what is subtracted from images scaled to 0..1; None for inputs that are no images.
        sets: all sets of a run on images.
    """

    network: MemberNetwork
    images: Tensor
    labels: Int64[Tensor, "member example"]
    mean: float | None = None
    sets: PairSets | None = None

    def inputs(self, rows: Int64[Tensor, "member row"]) -> Tensor:
        """Return inputs as the network reads them."""
        members = torch.arange(len(rows))[:, None]
        chosen = self.images[members, rows]
        return chosen if self.mean is None else normalize(chosen[0], self.mean)[None]

    def classes(self, rows: Int64[Tensor, "member row"]) -> Int64[Tensor, "member row"]:
        """Return labels."""
        return self.labels.gather(1, rows)


def make_task(config: ControlConfig, root: Path | None) -> Task:
    """Return a run's data and its network with its first weights.

    Args:
        config: task, n_train and seeds are read.
        root: folder of the real data sets, for "cifar_mnist".
    Raises:
        FileNotFoundError, ValueError: images are not there; see `samlib.images.tiles.load_pair`.
    """
    if config.task == "toy":
        data = ToyData(n_train=config.n_examples)
        drawn = [sample(data, seed=seed, split="train") for seed in config.seeds]
        inputs, labels = (torch.stack(each) for each in zip(*drawn, strict=True))
        return Task(ToyNetworks(config.seeds), inputs.float(), (labels > 0).long())
    if config.task == "three_features":
        parts = [three_features(config.n_examples, seed=seed, split="train") for seed in config.seeds]
        inputs = torch.stack([part.inputs for part in parts]).float()
        labels = torch.stack([part.labels[:, 0] for part in parts])
        return Task(MixedNetworks(config.seeds, inputs=2 * len(TURNS)), inputs, labels)
    # But for the images, the pair is chapter 1's.
    n_probe = 2000 if config.task == "cifar_mnist" else 200
    pair = PairConfig(pair=config.task, n_train=config.n_train, n_probe=n_probe, seed=config.seeds[0])
    sets = pair_sets(load_pair(pair.pair, root), pair)
    network = build_backbone(pair.backbone, n_classes=sets.n_classes, seed=pair.seed)
    labels = sets.train.labels[:, 0]
    return Task(ImageNetwork(network), sets.train.images[None], labels[None], mean_pixel(sets.train.images), sets)


def errors(config: ControlConfig, task: Task) -> dict[str, list[float]]:
    """Measure test error and the probing error of every feature, a number a seed.

    The toy's probes are v_k phi_k (Section 5.1); the others are linear probes on examples whose features are
    independent (Eq 1).

    Args:
        config: the run.
        task: what `make_task` returned, its network trained.
    Returns:
        test_error and <feature>_probe_error: lists by seed.
    """
    network = task.network
    if isinstance(network, ToyNetworks):
        examples = stack_examples([(ToyConfig(), seed) for seed in config.seeds], "test", like=network.v)
        probes, test, _ = probing_errors(network.weights(), examples)
        told = {f"{name}_probe_error": probes[:, i].tolist() for i, name in enumerate(("easy", "hard"))}
        return {"test_error": test.tolist()} | told
    if config.task == "three_features":
        return _three_errors(config, network)
    assert isinstance(network, ImageNetwork) and task.sets is not None and task.mean is not None
    metrics = measure(network.network, task.sets, mean=task.mean, seed=config.seeds[0])
    names = ["test_error", *(f"{feature}_probe_error" for feature in task.sets.features)]
    return {name: [metrics[name]] for name in names}


class Mixed(NamedTuple):
    """Examples with three features in one vector, and the label that each feature shows (0 or 1)."""

    inputs: Float[Tensor, "example 6"]
    labels: Int64[Tensor, "example 3"]


def three_features(n: int, *, seed: int, split: str) -> Mixed:
    """Draw a linear feature and two spirals, and rotate all six coordinates by one random rotation.

    Args:
        n: examples.
        seed: root seed of rotation and draws.
        split: "train" and "test": the features agree; "probe train" and "probe test": they are independent.
    Returns:
        New tensors, double precision.
    Raises:
        ValueError: another split.
    """
    check_choice("split", split, ("train", "test", "probe train", "probe test"))
    generator = stream(seed, f"three features, {split}")
    labels = torch.randint(2, (n, len(TURNS)), generator=generator)
    if not split.startswith("probe"):
        labels = labels[:, :1].expand(-1, len(TURNS))
    signs = 2.0 * labels.double() - 1
    place = torch.rand(n, len(TURNS), generator=generator, dtype=torch.float64)
    noise = 2 * torch.rand(n, 2 * len(TURNS), generator=generator, dtype=torch.float64) - 1
    usual = ToyData()
    line = LINE_SCALE * signs[:, 0] * (0.1 + 0.9 * place[:, 0])
    parts = [torch.stack([line, torch.zeros_like(line)], dim=1)]
    for i, turn in enumerate(list(TURNS.values())[1:], start=1):
        arm = usual.hard_scale * spiral(place[:, i], signs[:, i], turn)
        parts.append(arm + usual.uniform_noise * noise[:, 2 * i : 2 * i + 2])
    return Mixed(torch.cat(parts, dim=1) @ rotation(seed), labels)


def rotation(seed: int) -> Float[Tensor, "6 6"]:
    """Draw an orthogonal matrix, uniformly distributed: a rotation of all coordinates, in half the cases mirrored."""
    size = 2 * len(TURNS)
    normal = torch.randn(size, size, generator=stream(seed, "rotation"), dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    return q * torch.diagonal(r).sign()


@torch.no_grad()
def _three_errors(config: ControlConfig, network: MemberNetwork) -> dict[str, list[float]]:
    """Errors on three features, seed by seed."""
    sets = {
        split: [three_features(N_PROBE, seed=seed, split=split) for seed in config.seeds]
        for split in ("test", "probe train", "probe test")
    }
    seen = {split: network.features(torch.stack([x.inputs for x in part]).float()) for split, part in sets.items()}
    answers = network.read(seen["test"]).argmax(2)
    truth = torch.stack([part.labels[:, 0] for part in sets["test"]])
    found: dict[str, Any] = {"test_error": (answers != truth).double().mean(1).tolist()}
    for i, name in enumerate(TURNS):
        found[f"{name}_probe_error"] = []
        for member, seed in enumerate(config.seeds):
            train, test = (
                FrozenFeatures(seen[split][member], sets[split][member].labels[:, i], torch.zeros(N_PROBE).long())
                for split in ("probe train", "probe test")
            )
            result = probe_error(train, test, n_groups=1, generator=stream(seed, "probe"), strengths=PROBE_STRENGTHS)
            found[f"{name}_probe_error"].append(result.error)
    return found
