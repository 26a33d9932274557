"""The toy's data, network and interventions against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch

from samlib.toy.config import Intervention, ToyData
from samlib.toy.data import Examples, add_noise, batch_order, best_line_error, linear_baseline_error, sample, spiral
from samlib.toy.engine import BatchedEngine
from samlib.toy.interventions import MEMORY, phantom, replaced_terms, replacement, stand_in
from samlib.toy.network import DisentangledNetwork, feature_values, initial_weights

N = 20_000
TRAIN = sample(ToyData(n_train=N), seed=0, split="train")
CLEAN = TRAIN.inputs.view(-1, 2, 2)  # (example, feature, coordinate)


def noisy(**levels) -> torch.Tensor:
    """Training features with noise, each (example, feature, coordinate)."""
    return add_noise(TRAIN.inputs, ToyData(**levels), seed=0).view(-1, 2, 2)


def test_sizes_labels_and_both_features_have_their_ranges():
    for split, n in (("train", 7), ("test", 9)):
        inputs, labels = sample(ToyData(n_train=7, n_test=9), seed=0, split=split)
        assert (inputs.shape, labels.shape, inputs.dtype, labels.dtype) == ((n, 4), (n,), *[torch.float64] * 2)
    assert set(TRAIN.labels.tolist()) == {-1.0, 1.0} and abs(TRAIN.labels.mean()) < 4 / math.sqrt(N)
    first, radius, slack = TRAIN.inputs[:, 0], TRAIN.inputs[:, 2:].norm(dim=1), 0.05 * math.sqrt(2)
    assert torch.equal(first.sign(), TRAIN.labels) and (TRAIN.inputs[:, 1] == 0).all()
    assert 0.05 <= first.abs().min() < 0.0505 and 0.4995 < first.abs().max() <= 0.5  # 0.5 * U[0.1, 1]
    assert abs(first.abs().mean() - 0.275) < 0.005
    assert 0.4 - slack < radius.min() < 0.42 and 3.98 < radius.max() < 4.0 + slack  # 4 * [0.1, 1]


def test_scales_multiply_the_features_and_a_gap_of_zero_lets_the_easy_one_reach_zero():
    single, doubled, wide, narrow = (
        sample(ToyData(uniform_noise=0.0, **fields), seed=0, split="test").inputs
        for fields in ({}, {"easy_scale": 1.0, "hard_scale": 8.0}, {"easy_gap": 0.0}, {"easy_gap": 0.5})
    )
    assert torch.allclose(doubled, 2 * single, rtol=1e-12)
    wide, narrow = wide[:, 0].abs(), narrow[:, 0].abs()
    assert wide.min() < 0.01 * 0.5 and narrow.min() >= 0.5 * 0.5 and wide.max() <= 0.5


@pytest.mark.parametrize(
    ("position", "label", "complexity", "expected"),
    [
        (0.0, 1.0, 360.0, (0.1, 0.0)),
        (0.0, -1.0, 720.0, (-0.1, 0.0)),
        (0.5, 1.0, 360.0, (-0.55, 0.0)),
        (0.5, 1.0, 180.0, (0.0, 0.55)),
        (1.0, 1.0, 360.0, (1.0, 0.0)),
        (1.0, -1.0, 540.0, (1.0, 0.0)),
        (1.0, 1.0, 270.0, (0.0, -1.0)),
    ],
)
def test_the_spiral_passes_through_hand_worked_points(position, label, complexity, expected):
    point = spiral(torch.tensor([position]).double(), torch.tensor([label]).double(), complexity)
    assert point[0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("complexity", [180.0, 270.0, 360.0, 450.0, 540.0, 720.0])
def test_the_two_arms_never_meet(complexity):
    position = torch.linspace(0, 1, 2001, dtype=torch.float64)
    one = torch.ones_like(position)
    assert torch.cdist(spiral(position, one, complexity), spiral(position, -one, complexity)).min() > 0.1


def test_complexities_share_labels_and_latent_variables():
    first, second = (sample(ToyData(complexity=c, uniform_noise=0.0), seed=3, split="train") for c in (180.0, 540.0))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.inputs[:, :2], second.inputs[:, :2])
    assert torch.allclose(first.inputs[:, 2:].norm(dim=1), second.inputs[:, 2:].norm(dim=1), rtol=1e-12)
    assert not torch.allclose(first.inputs[:, 2:], second.inputs[:, 2:])


def test_a_radius_that_grows_with_the_angle_is_the_fixed_one_at_a_full_turn_and_goes_on_growing():
    both = [ToyData(radius_profile=kind, uniform_noise=0.0) for kind in ("fixed", "angle")]
    full, angle = (sample(data, seed=1, split="train").inputs for data in both)
    assert torch.equal(full, angle)
    inner, outer = both[1].inner_radius, 0.1 + 0.9 * 1.5
    longer = sample(replace(both[1], complexity=540.0), seed=1, split="test").inputs[:, 2:].norm(dim=1) / 4.0
    assert inner <= longer.min() < 0.12 and 1.4 < longer.max() <= outer


def test_same_seed_same_examples_other_seeds_and_splits_others_and_no_third_split():
    data = ToyData(n_test=300)
    draws = [sample(data, seed=seed, split=split).inputs for seed in (0, 1) for split in ("train", "test")]
    assert torch.equal(draws[0], sample(data, seed=0, split="train").inputs)
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    with pytest.raises(ValueError, match="split: expected one of 'train', 'test', got 'validation'"):
        sample(ToyData(), seed=0, split="validation")


def test_noise_touches_training_examples_only():
    loud, quiet = ToyData(flip=0.5, gaussian_noise=1.0, dropout=0.5), ToyData()
    for split in ("train", "test"):
        first, second = (sample(data, seed=0, split=split).inputs for data in (loud, quiet))
        assert torch.equal(first, second) == (split == "test")
    assert torch.equal(noisy(), CLEAN)


def close(rates: torch.Tensor, share: float) -> bool:
    """Whether shares of the examples are within four standard deviations of a probability."""
    return bool(((rates - share).abs() < 4 * math.sqrt(share * (1 - share) / N)).all())


def test_flips_and_dropouts_have_their_probabilities_and_concern_whole_features():
    flipped, dropped = noisy(flip=0.1), noisy(dropout=0.3)
    turned, gone = (flipped == -CLEAN).all(2), (dropped == 0).all(2)
    assert (turned | (flipped == CLEAN).all(2)).all() and (gone | (dropped == CLEAN).all(2)).all()
    assert close(turned.double().mean(0), 0.1) and close(gone.double().mean(0), 0.3)
    assert close(turned.all(1).double().mean(), 0.01)  # features are flipped independently of each other
    assert (turned | ~(noisy(flip=0.05) == -CLEAN).all(2)).all()  # levels share their draws


def test_gaussian_noise_has_its_standard_deviation_in_every_coordinate():
    difference = (noisy(gaussian_noise=0.25) - CLEAN).flatten(1)
    assert (difference.std(dim=0) - 0.25).abs().max() < 4 * 0.25 / math.sqrt(2 * N)
    assert difference.mean(0).abs().max() < 4 * 0.25 / math.sqrt(N)


def test_noise_on_the_hard_feature_leaves_the_easy_one_as_it_is():
    levels = {"flip": 0.2, "gaussian_noise": 0.5, "dropout": 0.2}
    hard, both = noisy(**levels, noisy_features="hard"), noisy(**levels)
    assert torch.equal(hard[:, 0], CLEAN[:, 0]) and torch.equal(hard[:, 1], both[:, 1])


def test_every_epoch_is_a_permutation_of_its_own_and_a_longer_training_starts_with_the_same():
    order = batch_order(10, 3, seed=0)
    assert [sorted(epoch) for epoch in order.tolist()] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in order.tolist()}) == 3
    assert torch.equal(order[:2], batch_order(10, 2, seed=0))
    assert not torch.equal(order, batch_order(10, 3, seed=1))


def examples_at(hard: list[tuple[float, float]], labels: list[float]) -> Examples:
    """Examples with the given hard coordinates; the easy ones would give the label away."""
    easy = torch.tensor(labels, dtype=torch.float64)[:, None].expand(-1, 2)
    return Examples(torch.cat([easy, torch.tensor(hard, dtype=torch.float64)], 1), torch.tensor(labels))


def test_the_linear_baseline_reads_the_hard_coordinates_alone():
    assert linear_baseline_error(examples_at([(0.1, 1), (-0.1, 2), (0.2, -1), (0, -3)], [1, 1, -1, -1])) == 0.0
    # On every line through the origin one of each pair of equal points is on the wrong side.
    assert linear_baseline_error(examples_at([(1, 2), (1, 2), (-3, 1), (-3, 1)], [1, -1, 1, -1])) == 0.5
    # Three corners agree with a line, the fourth cannot.
    assert linear_baseline_error(examples_at([(1, 0), (0, 1), (-1, -1), (1, 1)], [1, 1, 1, 1])) == 0.25
    bent, turned = (linear_baseline_error(sample(ToyData(complexity=c), seed=0, split="test")) for c in (90.0, 3600.0))
    assert bent < 0.01 and 0.4 < turned <= 0.5


def test_the_best_line_is_the_best_of_all_directions_and_offsets():
    corner = examples_at([(1, 1), (3, 3), (3, 1), (1, 3)], [1, -1, -1, -1])  # a line off the origin cuts off the first
    assert best_line_error(corner) == 0.0 and linear_baseline_error(corner) == 0.25
    assert best_line_error(examples_at([(1, 0), (2, 0), (3, 0)], [1, -1, 1])) == pytest.approx(1 / 3)
    assert best_line_error(examples_at([(1, 0), (2, 0)], [-1, -1])) == 0.0  # a line that all lie behind
    test = sample(ToyData(complexity=360.0, n_test=300), seed=0, split="test")
    points, labels = test.inputs[:, 2:].double(), test.labels.double()
    tried = []
    for angle in range(180):
        normal = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))], dtype=torch.float64)
        along = points @ normal
        for offset in [-torch.inf, *along.tolist()]:
            answers = torch.where(along > offset, 1.0, -1.0).double()
            share = (answers != labels).double().mean().item()
            tried += [share, 1 - share]
    assert best_line_error(test) == pytest.approx(min(tried))
    assert best_line_error(test) < linear_baseline_error(test) - 0.1


def test_feature_values_equal_the_network():
    weights = initial_weights([4, 5], hidden=7, last_layer_init=[2.0, 0.5])
    inputs = TRAIN.inputs[:20].view(2, 10, 4)
    for member, (seed, init) in enumerate(((4, 2.0), (5, 0.5))):
        network = DisentangledNetwork(hidden=7, last_layer_init=init, seed=seed)
        expected = network.features(inputs[member]).T
        assert torch.allclose(feature_values(weights, inputs)[member], expected, atol=1e-12)


def test_the_output_is_v_times_the_features_and_each_reads_its_own_inputs():
    network = DisentangledNetwork(hidden=7, last_layer_init=2.0, seed=0)
    inputs = TRAIN.inputs[:5]
    with torch.no_grad():
        network.v.copy_(torch.tensor([3.0, -0.5]))
        features = network.features(inputs)
        assert torch.allclose(network(inputs), 3.0 * features[:, 0] - 0.5 * features[:, 1], atol=1e-12)
        changed = network.features(inputs + torch.tensor([0, 0, 1.0, 1.0]))
    assert torch.equal(features[:, 0], changed[:, 0])
    assert (features[:, 1] != changed[:, 1]).all()


def test_initial_weights_fill_pytorchs_bounds_and_a_uniform_last_layer_its_size():
    seeds = list(range(50))
    weights = initial_weights(seeds, hidden=50, last_layer_init=[2.0] * 50)
    for inputs, parts in ((2, (weights.w1, weights.b1)), (50, (weights.w2, weights.b2, weights.w3))):
        for part in parts:
            assert 0.95 * inputs**-0.5 < part.abs().max() <= inputs**-0.5
            assert part.mean().abs() < 0.1 * inputs**-0.5
    assert (weights.v == 2.0).all()
    v = initial_weights(seeds, hidden=3, last_layer_init=[2.0] * 50, last_layer_draw="uniform").v
    assert 0 <= v.min() < 0.2 and 1.8 < v.max() <= 2.0 and abs(v.mean() - 1.0) < 0.2


def test_a_network_depends_on_its_own_seed_alone_and_leaves_the_global_generator():
    before = torch.random.get_rng_state()
    alone = initial_weights([7], hidden=5, last_layer_init=[1.0])
    beside = initial_weights([3, 7], hidden=5, last_layer_init=[4.0, 1.0])
    assert all(torch.equal(a[0], b[1]) for a, b in zip(alone, beside, strict=True))
    assert not torch.equal(beside.w1[0], beside.w1[1])
    assert torch.equal(before, torch.random.get_rng_state())


V = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
GRADIENT = torch.tensor([[3.0, 4.0], [-1e-9, 0.0]], dtype=torch.float64)
RHO = torch.tensor([0.5, 2.0], dtype=torch.float64)
MOVED = phantom(V, GRADIENT, RHO)


def test_the_phantom_lies_at_distance_rho_along_the_gradient_and_where_there_is_none_stays():
    assert MOVED.flatten().tolist() == pytest.approx([1.3, 2.4, -1.5, -1.0])
    assert torch.equal(phantom(V, torch.zeros_like(V), 100 * RHO), V)  # 100 rho over the smallest number overflows
    assert torch.equal(phantom(V, GRADIENT, 0 * RHO), V)
    # In single precision the squares of such a gradient would be none.
    tiny = phantom(torch.tensor([[2.0, 2.0]]), torch.tensor([[-3e-25, -4e-25]]), torch.ones(1))
    assert tiny[0].tolist() == pytest.approx([1.4, 1.2])


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(("norm", "length"), [("initial", [5.0, 5.0]), ("matched", V.norm(dim=1).tolist())])
def test_the_fixed_vector_has_its_ratio_and_its_length(ratio, norm, length):
    settings = Intervention(term="both", ratio=ratio, norm=norm)
    hat = replaced_terms(V, MOVED, replacement([settings] * 2, torch.tensor([[3.0, 4.0]] * 2).double())).rate
    assert (hat[:, 1] / hat[:, 0]).tolist() == pytest.approx([ratio] * 2)
    assert hat.norm(dim=1).tolist() == pytest.approx(length)
    assert (hat > 0).all()


@pytest.mark.parametrize(
    ("vector", "hard_gradient", "first", "second"),
    [
        ("phantom", -4.0, [0.7, 1.6], [0.7, 1.6]),
        ("permuted", -4.0, [1.4, 1.7], [1.4, 1.7]),
        ("mean", -4.0, [1.0, 2.0], [0.7, 1.6]),  # no direction has been seen before the first step
        ("helps", -4.0, [0.7, 1.6], [0.7, 1.6]),
        ("helps", 4.0, [1.0, 2.0], [1.0, 2.0]),
        ("hurts", -4.0, [1.0, 2.0], [1.0, 2.0]),
        ("hurts", 4.0, [0.7, 2.4], [0.7, 2.4]),
    ],
)
def test_what_stands_in_for_the_phantom(vector, hard_gradient, first, second):
    v, lent, rho = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, -3.0]]), torch.tensor([0.5])
    settings = replacement([Intervention(term="both", vector=vector)], v)
    for expected in (first, second):
        found = stand_in(v, torch.tensor([[-3.0, hard_gradient]]), lent, rho, settings)
        assert found[0].tolist() == pytest.approx(expected)


def test_the_running_mean_is_the_mean_of_all_steps_and_forgets_after_its_memory():
    v, rho = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    settings = replacement([Intervention(term="both", vector="mean")], v + 1)
    for step in range(MEMORY):
        gradient = torch.tensor([[1.0, 0.0] if step % 3 else [0.0, 1.0]], dtype=torch.float64)
        stand_in(v, gradient, gradient, rho, settings)
    assert settings.mean[0].tolist() == pytest.approx([2 / 3, 1 / 3])
    stand_in(v, torch.tensor([[0.0, 1.0]], dtype=torch.float64), v, rho, settings)
    assert settings.mean[0, 1].item() == pytest.approx(1 / 3 + (2 / 3) / MEMORY)


def test_members_without_intervention_keep_their_phantom_beside_others():
    settings = replacement([Intervention(), Intervention(term="both")], V)
    assert all(torch.equal(vector[0], MOVED[0]) for vector in replaced_terms(V, MOVED, settings))
    assert replacement([Intervention(), Intervention()], V) is None


def test_a_sign_of_the_last_layer_can_be_moved_into_the_layer_below():
    weights = initial_weights([0, 0], hidden=6, last_layer_init=[1.5, 1.5])
    for part in (weights.v, weights.w3.view(2, 2, -1), weights.b3.view(2, 2)):
        part[1, 1] *= -1  # of the second member's hard feature
    settings = {"learning_rate": [0.05] * 2, "rho": [0.7] * 2, "interventions": [Intervention()] * 2}
    engine = BatchedEngine(weights, **settings, batch_size=5, dtype=torch.float64)
    order = batch_order(300, 1, seed=0).view(60, 1, 5).expand(-1, 2, -1)
    data = sample(ToyData(), seed=0, split="train")
    engine.run(data.inputs[order].view(60, 2, 5, 2, 2).transpose(2, 3), data.labels[order])
    assert torch.equal(engine.weights.v[0] * torch.tensor([1.0, -1.0]), engine.weights.v[1])
    assert engine.weights.v[0, 1] != 1.5
