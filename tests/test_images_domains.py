"""Training on all domains but one and probing the target: DomainBed's splits, plain references, bad input."""

import dataclasses
import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from samlib.images.backbones import build_backbone
from samlib.images.catalogue import DOMAINS
from samlib.images.config import DomainConfig, part_sizes
from samlib.images.domains import draw_batches, train_domains
from samlib.images.image_sets import PreparedSet, digit_domains, draw_in
from samlib.images.probing import CHOICES
from samlib.images.splits import class_labels, domain_splits
from samlib.images.training import evaluate
from samlib.images.views import ImageViews
from samlib.streams import stream

DIGITS = DOMAINS["digit_domains"].domains
TINY = DomainConfig(
    image_set="digit_domains",
    target="thick",
    stored_size=32,
    image_size=32,
    backbone="smallnet",
    learning_rate=0.02,
    weight_decay=0.01,
    batch_per_domain=16,
    n_epochs=2,
)


@pytest.fixture(scope="module")
def data() -> PreparedSet:
    return digit_domains()


def change(**values: object) -> DomainConfig:
    return dataclasses.replace(TINY, **values)


# The embedded set


def test_every_digit_is_in_exactly_one_domain(data):
    sizes = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.table["class"].value_counts().sort_index().tolist() == sizes
    assert data.table.domain.value_counts().to_dict() == DIGITS
    inverted = (data.table.domain == "inverted").to_numpy()
    assert data.images[inverted].mean() > 127 > data.images[~inverted].mean()


def test_domains_redraw_the_same_picture():
    dot = torch.zeros(1, 8, 8)
    dot[0, 4, 4] = 1
    drawn = {name: draw_in(name, dot, generator=stream(0, "noise"))[0] for name in DIGITS}
    assert torch.equal(drawn["plain"], dot[0])
    assert torch.equal(drawn["inverted"], 1 - dot[0])
    assert drawn["thick"].sum() == 9 and drawn["thick"][3:6, 3:6].min() == 1
    assert not torch.equal(drawn["noisy"], dot[0])


# Splits


def domainbeds_split(n: int, seed: int, i: int) -> tuple[list[int], list[int]]:
    """DomainBed's `split_dataset(env, int(len(env) * 0.2), seed_hash(trial_seed, i))`, written out."""
    keys = list(range(n))
    number = int(hashlib.md5(str((seed, i)).encode("utf-8")).hexdigest(), 16) % (2**31)
    np.random.RandomState(number).shuffle(keys)
    return keys[: int(n * 0.2)], keys[int(n * 0.2) :]


@pytest.mark.parametrize(("seed", "target"), [(0, "thick"), (0, "noisy"), (3, "thick")])
def test_splits_are_domainbeds_whatever_the_target_which_trains_the_probe_alone(data, seed, target):
    config = change(seed=seed, target=target)
    splits = domain_splits(data, config)
    assert list(splits.train) == list(splits.validation) == [name for name in DIGITS if name != target]
    first = 0
    for i, (domain, n) in enumerate(DIGITS.items()):
        test, train = domainbeds_split(n, seed, i)
        assert (splits.test[domain] - first).tolist() == test
        parts = [splits.probe_train] if domain == target else [splits.validation[domain], splits.train[domain]]
        assert (torch.cat(parts) - first).tolist() == train
        if domain != target:
            assert (len(parts[1]), len(parts[0]), len(test)) == part_sizes(n)
        first += n
    assert part_sizes(100) == (72, 8, 20)
    assert config.n_images == sum(map(len, splits.train.values()))


def test_a_batch_has_as_many_images_of_each_domain_and_none_returns_early():
    rows = {"small": torch.arange(10), "large": torch.arange(100, 150)}
    batches = draw_batches(rows, 4, stream(0, "batch order"))
    assert [len(batch) for batch in batches] == [8] * 7  # 60 images fill seven batches
    small = torch.cat([batch[batch < 100] for batch in batches]).tolist()
    large = torch.cat([batch[batch >= 100] for batch in batches]).tolist()
    assert all((batch < 100).sum() == 4 for batch in batches)
    assert sorted(small[:10]) == sorted(small[10:20]) == list(range(10))
    assert len(set(large)) == 28
    assert len(draw_batches(rows, 500, stream(0, "batch order"))) == 1


# Training


def test_errors_are_those_of_the_named_images_and_every_source_counts_alike(data):
    data = without(data, (data.table.domain == "plain") & (data.table.index % 3 > 0))  # one domain is small
    config = change(n_epochs=6, batch_per_domain=8)
    metrics, network, _ = train_domains(config, data)
    splits, labels = domain_splits(data, config), class_labels(data.table)[1]
    views = ImageViews(data, torch.arange(len(data.table)), size=32, device="cpu")

    def error(rows: torch.Tensor) -> float:
        return (evaluate(network, views, rows)[1] != labels[rows]).double().mean().item()

    assert metrics["zero_shot_error"] == error(splits.test["thick"])
    assert metrics["source_test_errors"] == [error(splits.test[name]) for name in ("plain", "inverted", "noisy")]
    validation = np.mean([error(rows) for rows in splits.validation.values()])
    assert metrics["validation_error"] == pytest.approx(validation) != error(torch.cat([*splits.validation.values()]))
    assert metrics["validation_error"] == metrics["curves"]["validation_error"][-1] < 0.8  # ten classes
    train, test = (evaluate(network, views, rows)[0] for rows in (splits.probe_train, splits.test["thick"]))
    mean, deviation = train.mean(0), train.std(0, correction=0).clamp(min=1e-9)
    probe = LogisticRegression(C=metrics["probe_strength"], max_iter=5000)
    probe.fit(((train - mean) / deviation).numpy(), labels[splits.probe_train].numpy())
    wrong = probe.predict(((test - mean) / deviation).numpy()) != labels[splits.test["thick"]].numpy()
    assert metrics["probe_error"] == pytest.approx(wrong.mean(), abs=2 / len(wrong))
    assert metrics["probe_error"] < 0.5  # ten classes
    sizes = {name: metrics[f"n_{name}"] for name in ("probe_train", "test", "classes", "features")}
    assert sizes == {"probe_train": 360, "test": 89, "classes": 10, "features": 32}
    parts = {name: getattr(splits, name).values() for name in ("train", "validation")}
    assert all(metrics[f"n_{name}"] == sum(map(len, part)) for name, part in parts.items())


def test_a_cross_validated_probe_is_recorded_beside_other_choices_and_jitter_trains_another_network(data):
    plain = train_domains(change(n_epochs=1), data).metrics
    folded = train_domains(change(n_epochs=1, probe_folds=3), data).metrics
    assert folded["probe_sensitivity"].keys() == CHOICES.keys() and "probe_sensitivity" not in plain
    assert folded["curves"] == plain["curves"] and folded["zero_shot_error"] == plain["zero_shot_error"]
    assert train_domains(change(n_epochs=1, colour_jitter=True), data).metrics["curves"] != plain["curves"]
    lost = train_domains(change(learning_rate=1e9, probe_folds=3), data).metrics
    assert lost["diverged"] and lost.keys() == folded.keys()


def test_without_epochs_the_backbone_stays_as_it_was(data):
    result = train_domains(change(n_epochs=0), data)
    start = build_backbone("smallnet", n_classes=10, trained="all", seed=0).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in result.network.state_dict().items())
    assert result.metrics["probe_error"] < 0.7 < result.metrics["zero_shot_error"]
    assert result.metrics["curves"] == {"train_loss": [], "validation_error": []} and not result.metrics["diverged"]


def test_a_frozen_lower_part_is_computed_once_for_all_targets_and_seeds(data, tmp_path):
    for values in ({}, {"target": "plain"}, {"seed": 1}, {"rho": 0.05}):
        config = change(trained="last block", n_epochs=1, **values)
        kept, anew = (train_domains(config, data, folder=folder).metrics for folder in (tmp_path, None))
        assert kept == anew
    # The small network's lower part is drawn from the seed: two seeds, two views each.
    assert len(list((tmp_path / "activations").glob("*.npy"))) == 4


# Bad input


def without(data: PreparedSet, rows: pd.Series) -> PreparedSet:
    table = data.table[~rows].reset_index(drop=True)
    return dataclasses.replace(data, images=data.images[~rows.to_numpy()], table=table)


def lacks_a_seven(data: PreparedSet) -> PreparedSet:
    return without(data, (data.table.domain == "plain") & (data.table["class"] == "7"))


def shuffled(data: PreparedSet) -> PreparedSet:
    order = data.table.sample(frac=1, random_state=0).index
    return dataclasses.replace(data, images=data.images[order], table=data.table.loc[order].reset_index(drop=True))


REFUSED = {
    "no such domain": (lambda data: change(target="dotted"), "target: expected one of 'plain', .* got 'dotted'"),
    "no such set": (lambda data: change(image_set="terra"), "image_set: expected one of 'pacs', 'officehome', 'vlcs'"),
    "a domain is missing": (
        lambda data: train_domains(TINY, without(data, data.table.domain == "noisy")),
        "got 0 of noisy; the table has inverted, plain, thick: add",
    ),
    "a class is missing": (lambda data: train_domains(TINY, lacks_a_seven(data)), "there is no 7 in plain; add"),
    # On the order of the rows the splits depend.
    "unsorted": (lambda data: domain_splits(shuffled(data), TINY), "expected the rows of .* sorted by class and file"),
    "another set": (lambda data: train_domains(DomainConfig(), data), "the set 'pacs'.*got 'digit_domains'"),
    # Of the target's 449 images 89 test the probe.
    "folds": (lambda data: domain_splits(data, change(probe_folds=361)), r"probe_folds: .* 360\], got 361; there are"),
}


@pytest.mark.parametrize(("use", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_there_is_refused_by_name(data, use, message):
    with pytest.raises(ValueError, match=message):
        use(data)
