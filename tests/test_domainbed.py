"""Training on all domains but one and probing the target: DomainBed's splits, plain references, bad input."""

import dataclasses
import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from interruption import Interrupted, Memory
from plain_training import train_plainly
from sklearn.linear_model import LogisticRegression
from torch import nn

from data_scripts.domains import LAYOUTS
from samlib.images.backbones import IMAGENET_MEAN, IMAGENET_STD, build_backbone
from samlib.images.domain_config import DOMAINS, DomainConfig, part_sizes
from samlib.images.domain_splits import class_labels, domain_splits
from samlib.images.embedded import digit_domains, draw_in
from samlib.images.prepared import PreparedSet
from samlib.images.train_domains import draw_batches, load_domains, train_domains
from samlib.images.training import predict
from samlib.images.views import ImageViews
from samlib.streams import stream

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
    assert data.table["class"].value_counts().sort_index().tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert data.table.domain.value_counts().to_dict() == DOMAINS["digit_domains"]
    inverted = (data.table.domain == "inverted").to_numpy()
    assert data.images[inverted].mean() > 127 > data.images[~inverted].mean()


def test_domains_redraw_the_same_picture():
    dot = torch.zeros(1, 8, 8)
    dot[0, 4, 4] = 1
    drawn = {name: draw_in(name, dot, generator=stream(0, "noise"))[0] for name in DOMAINS["digit_domains"]}
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


@pytest.mark.parametrize("seed", [0, 3])
def test_splits_are_domainbeds(data, seed):
    splits = domain_splits(data, change(seed=seed))
    first = 0
    for i, (domain, n) in enumerate(DOMAINS["digit_domains"].items()):
        test, train = domainbeds_split(n, seed, i)
        assert (splits.test[domain] - first).tolist() == test
        found = (
            splits.probe_train if domain == "thick" else torch.cat([splits.validation[domain], splits.train[domain]])
        )
        assert (found - first).tolist() == train
        first += n


def test_parts_have_the_stated_shares_and_the_target_trains_the_probe_alone(data):
    assert part_sizes(100) == (72, 8, 20)
    splits = domain_splits(data, TINY)
    assert "thick" not in splits.train and "thick" not in splits.validation
    for domain, rows in splits.train.items():
        assert (len(rows), len(splits.validation[domain]), len(splits.test[domain])) == part_sizes(
            DOMAINS["digit_domains"][domain]
        )
    assert TINY.n_images == sum(map(len, splits.train.values()))
    everything = torch.cat([splits.probe_train, *(rows for part in splits[:3] for rows in part.values())])
    assert everything.sort().values.tolist() == list(range(1797))


def test_another_target_leaves_the_splits_as_they_are(data):
    one, other = domain_splits(data, TINY), domain_splits(data, change(target="noisy"))
    assert torch.equal(one.train["plain"], other.train["plain"])
    assert torch.equal(one.test["noisy"], other.test["noisy"])


def test_published_counts_are_those_that_the_data_scripts_compare_with():
    for name, layout in LAYOUTS.items():
        assert DOMAINS[name] == layout.domains
        assert list(layout.domains) == sorted(layout.domains)  # DomainBed's order


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


def plain_views(config: DomainConfig, data: PreparedSet, network: nn.Module):
    """Inputs of some rows, drawn as in training: augmented images, or half-precision activations mirrored by chance."""
    if config.trained == "all":
        views = ImageViews(data, torch.arange(len(data.table)), size=32, device="cpu")
        return views.augmented
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = (torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
    with torch.no_grad():
        plain, mirrored = (network.lower(images).half().float() for images in (pixels, pixels.flip(3)))

    def drawn(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        turned = torch.randint(2, (len(rows), 1, 1, 1), generator=generator).bool()
        return torch.where(turned, mirrored[rows], plain[rows])

    return drawn


def plain_training(config: DomainConfig, data: PreparedSet) -> nn.Module:
    """The run written out, its batches drawn one after another."""
    splits = domain_splits(data, config)
    network = build_backbone("smallnet", n_classes=10, trained=config.trained, seed=config.seed)
    drawn = plain_views(config, data, network)
    labels = torch.tensor([int(name) for name in data.table["class"]])
    order, augmentation = stream(config.seed, "batch order"), stream(config.seed, "augmentation")

    def batches():
        for _ in range(config.n_epochs):
            for rows in draw_batches(splits.train, config.batch_per_domain, order):
                yield drawn(rows, augmentation), labels[rows]

    n_steps = config.n_epochs * (config.n_images // (3 * config.batch_per_domain))
    train_plainly(network.train(), batches(), config, n_steps=n_steps)
    return network


@pytest.mark.parametrize("trained", ["all", "last block"])
@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_training_matches_a_plain_loop(data, rho, trained):
    # Ten steps: rounding grows with their number.
    config = change(rho=rho, trained=trained, batch_per_domain=64, learning_rate=0.01)
    expected, found = plain_training(config, data), train_domains(config, data).network
    start = build_backbone("smallnet", n_classes=10, trained=trained, seed=0).state_dict()
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value.double(), expected.state_dict()[name].double(), atol=2e-4, rtol=0)
        if name.startswith("lower"):
            assert torch.equal(value, start[name]), name
        else:
            assert "num_batches" in name or not torch.equal(value, start[name]), name


def test_errors_are_those_of_the_named_images(data):
    config = change(n_epochs=6, batch_per_domain=8)
    metrics, network = train_domains(config, data)
    splits, labels = domain_splits(data, config), class_labels(data.table)[1]
    views = ImageViews(data, torch.arange(len(data.table)), size=32, device="cpu")

    def error(rows: torch.Tensor) -> float:
        return (predict(network, views, rows)[1] != labels[rows]).double().mean().item()

    assert metrics["zero_shot_error"] == error(splits.test["thick"])
    assert metrics["source_test_errors"] == [error(splits.test[name]) for name in ("plain", "inverted", "noisy")]
    assert metrics["validation_error"] == pytest.approx(np.mean([error(rows) for rows in splits.validation.values()]))
    assert metrics["validation_error"] == metrics["curves"]["validation_error"][-1] < 0.8  # ten classes
    train, test = (predict(network, views, rows)[0] for rows in (splits.probe_train, splits.test["thick"]))
    mean, deviation = train.mean(0), train.std(0, correction=0).clamp(min=1e-9)
    probe = LogisticRegression(C=metrics["probe_strength"], max_iter=5000)
    probe.fit(((train - mean) / deviation).numpy(), labels[splits.probe_train].numpy())
    wrong = probe.predict(((test - mean) / deviation).numpy()) != labels[splits.test["thick"]].numpy()
    assert metrics["probe_error"] == pytest.approx(wrong.mean(), abs=2 / len(wrong))
    assert metrics["probe_error"] < 0.5  # ten classes
    assert {n: metrics[f"n_{n}"] for n in ("train", "validation", "probe_train", "test", "classes", "features")} == {
        "train": config.n_images,
        "validation": 108,
        "probe_train": 360,
        "test": 89,
        "classes": 10,
        "features": 32,
    }


def test_validation_counts_every_source_alike_whatever_its_size(data):
    few = ~((data.table.domain == "plain") & (data.table["file"].index % 3 > 0))
    smaller = without(data, few)
    metrics, network = train_domains(change(n_epochs=1), smaller)
    splits, labels = domain_splits(smaller, TINY), class_labels(smaller.table)[1]
    views = ImageViews(smaller, torch.arange(len(smaller.table)), size=32, device="cpu")
    wrong = {name: predict(network, views, rows)[1] != labels[rows] for name, rows in splits.validation.items()}
    assert len(wrong["plain"]) < len(wrong["noisy"]) / 2
    assert metrics["validation_error"] == pytest.approx(np.mean([part.double().mean() for part in wrong.values()]))
    assert metrics["validation_error"] != pytest.approx(torch.cat(list(wrong.values())).double().mean().item())


def test_without_epochs_the_backbone_stays_as_it_was(data):
    result = train_domains(change(n_epochs=0), data)
    start = build_backbone("smallnet", n_classes=10, trained="all", seed=0).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in result.network.state_dict().items())
    assert result.metrics["probe_error"] < 0.7 < result.metrics["zero_shot_error"]
    assert result.metrics["curves"] == {"train_loss": [], "validation_error": []} and not result.metrics["diverged"]


def test_a_frozen_lower_part_is_computed_once_for_all_targets_and_seeds(data, tmp_path):
    for config in (change(), change(target="plain"), change(seed=1), change(rho=0.05)):
        config = dataclasses.replace(config, trained="last block", n_epochs=1)
        kept, anew = (train_domains(config, data, folder=folder).metrics for folder in (tmp_path, None))
        assert kept == anew
    # The small network's lower part is drawn from the seed: two seeds, two views each.
    assert len(list((tmp_path / "activations").glob("*.npy"))) == 4


def test_runs_repeat_resume_and_differ_by_seed(data):
    config = change(rho=0.05, n_epochs=3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    whole = train_domains(config, data).metrics
    memory = Memory()
    with pytest.raises(Interrupted):
        train_domains(config, data, checkpoint=memory)
    assert train_domains(config, data, checkpoint=memory).metrics == whole
    assert memory.fractions == pytest.approx([1 / 3, 2 / 3, 1])
    assert train_domains(dataclasses.replace(config, seed=1), data).metrics != whole
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("rate", [1e8, 1e38])
def test_a_diverged_run_reports_no_errors(data, rate):
    metrics = train_domains(change(learning_rate=rate), data).metrics
    assert metrics["diverged"]
    assert metrics["probe_error"] is metrics["validation_error"] is metrics["source_effective_rank"] is None
    assert metrics.keys() == train_domains(change(n_epochs=0), data).metrics.keys()


# Bad input


def without(data: PreparedSet, keep: pd.Series) -> PreparedSet:
    table = data.table[keep].reset_index(drop=True)
    return dataclasses.replace(data, images=data.images[keep.to_numpy()], table=table)


def test_a_domain_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValueError, match="target: expected one of 'plain', 'inverted', 'thick', 'noisy', got 'dotted'"):
        change(target="dotted")
    with pytest.raises(ValueError, match="image_set: expected one of 'pacs', 'officehome', 'vlcs'"):
        change(image_set="terra")


def test_a_missing_domain_is_named(data):
    with pytest.raises(ValueError, match="got 0 of noisy; the table has inverted, plain, thick: add"):
        train_domains(TINY, without(data, data.table.domain != "noisy"))


def test_a_class_that_a_domain_lacks_is_named(data):
    lacking = ~((data.table.domain == "plain") & (data.table["class"] == "7"))
    with pytest.raises(ValueError, match="expected every class in every domain, but there is no 7 in plain; add"):
        train_domains(TINY, without(data, lacking))


def test_rows_in_another_order_are_refused_since_the_splits_depend_on_it(data):
    shuffled = data.table.sample(frac=1, random_state=0).index
    other = dataclasses.replace(
        data, images=data.images[shuffled], table=data.table.loc[shuffled].reset_index(drop=True)
    )
    with pytest.raises(ValueError, match=r"expected the rows of .* sorted by class and file name"):
        domain_splits(other, TINY)


def test_another_set_than_the_configurations_is_refused(data):
    with pytest.raises(ValueError, match=r"data: expected the set 'pacs'.*got 'digit_domains'"):
        train_domains(DomainConfig(), data)


def test_a_set_that_is_not_there_is_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare vlcs --size 112"):
        load_domains(DomainConfig(image_set="vlcs", target="SUN09"), tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_epochs", -1), ("batch_per_domain", 0), ("rho", -0.1), ("stored_size", 31), ("momentum", 1.0), ("seed", 1.5)],
)
def test_unusable_numbers_are_refused_by_name(name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name}: expected"):
        change(**{name: value})
