"""The toy's data, network and interventions against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch

from samlib.toy.config import Intervention, ToyData
from samlib.toy.data import Examples, add_noise, batch_order, linear_baseline_error, sample, spiral
from samlib.toy.engine import BatchedEngine
from samlib.toy.interventions import MEMORY, phantom, replaced_terms, replacement, stand_in
from samlib.toy.network import DisentangledNetwork, feature_values, initial_weights

MANY = ToyData(n_train=20_000, n_test=20_000)
TRAIN = sample(MANY, seed=0, split="train")


def noisy(**levels) -> tuple[torch.Tensor, torch.Tensor]:
    """Training features with and without noise, each (example, feature, coordinate)."""
    clean = TRAIN.inputs.view(-1, 2, 2)
    return add_noise(TRAIN.inputs, ToyData(**levels), seed=0).view(-1, 2, 2), clean


def test_sizes_and_labels():
    train, test = (sample(ToyData(n_train=7, n_test=9), seed=0, split=split) for split in ("train", "test"))
    assert train.inputs.shape == (7, 4) and train.labels.shape == (7,)
    assert test.inputs.shape == (9, 4) and test.labels.shape == (9,)
    assert train.inputs.dtype == train.labels.dtype == torch.float64
    assert set(TRAIN.labels.tolist()) == {-1.0, 1.0}
    assert abs(float(TRAIN.labels.mean())) < 4 / math.sqrt(20_000)


def test_the_easy_feature_has_the_label_sign_and_its_range():
    first = TRAIN.inputs[:, 0]
    assert torch.equal(first.sign(), TRAIN.labels)
    assert (TRAIN.inputs[:, 1] == 0).all()
    assert 0.05 <= first.abs().min() < 0.0505 and 0.4995 < first.abs().max() <= 0.5  # 0.5 * U[0.1, 1]
    assert abs(float(first.abs().mean()) - 0.275) < 0.005


def test_the_hard_feature_lies_between_its_radii_up_to_its_noise():
    radius = TRAIN.inputs[:, 2:].norm(dim=1)
    slack = 0.05 * math.sqrt(2)
    assert 0.4 - slack < radius.min() < 0.42 and 3.98 < radius.max() < 4.0 + slack  # 4 * [0.1, 1]


def test_scales_multiply_the_features():
    doubled = sample(ToyData(easy_scale=1.0, hard_scale=8.0, uniform_noise=0.0), seed=0, split="test").inputs
    single = sample(ToyData(uniform_noise=0.0), seed=0, split="test").inputs
    assert torch.allclose(doubled, 2 * single, rtol=1e-12)


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
    one = {"dtype": torch.float64}
    point = spiral(torch.tensor([position], **one), torch.tensor([label], **one), complexity)
    assert point[0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("complexity", [180.0, 270.0, 360.0, 450.0, 540.0, 720.0])
def test_the_two_arms_never_meet(complexity):
    position = torch.linspace(0, 1, 2001, dtype=torch.float64)
    one = torch.ones_like(position)
    gap = torch.cdist(spiral(position, one, complexity), spiral(position, -one, complexity)).min()
    assert gap > 0.1


def test_complexities_share_labels_and_latent_variables():
    first, second = (sample(ToyData(complexity=c, uniform_noise=0.0), seed=3, split="train") for c in (180.0, 540.0))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.inputs[:, :2], second.inputs[:, :2])
    assert torch.allclose(first.inputs[:, 2:].norm(dim=1), second.inputs[:, 2:].norm(dim=1), rtol=1e-12)
    assert not torch.allclose(first.inputs[:, 2:], second.inputs[:, 2:])


def test_same_seed_same_examples_and_other_seeds_and_splits_others():
    data = ToyData(n_test=300)
    draws = [sample(data, seed=seed, split=split).inputs for seed in (0, 1) for split in ("train", "test")]
    assert torch.equal(draws[0], sample(data, seed=0, split="train").inputs)
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split: expected one of 'train', 'test', got 'validation'"):
        sample(ToyData(), seed=0, split="validation")


def test_noise_touches_training_examples_only():
    loud = ToyData(flip=0.5, gaussian_noise=1.0, dropout=0.5)
    assert torch.equal(sample(loud, seed=0, split="test").inputs, sample(ToyData(), seed=0, split="test").inputs)
    assert not torch.equal(sample(loud, seed=0, split="train").inputs, sample(ToyData(), seed=0, split="train").inputs)


def test_no_noise_changes_no_bit():
    found, clean = noisy()
    assert torch.equal(found, clean)


def test_the_flip_rate_is_the_probability_and_flips_whole_features():
    found, clean = noisy(flip=0.1)
    flipped = (found == -clean).all(2)
    assert (flipped | (found == clean).all(2)).all()
    rates = flipped.double().mean(0)
    assert (rates - 0.1).abs().max() < 4 * math.sqrt(0.1 * 0.9 / 20_000)
    both = flipped.all(1).double().mean()  # features are flipped independently of each other
    assert abs(both - 0.01) < 4 * math.sqrt(0.01 * 0.99 / 20_000)


def test_the_dropout_rate_is_the_probability_and_drops_whole_features():
    found, clean = noisy(dropout=0.3)
    dropped = (found == 0).all(2)
    assert (dropped | (found == clean).all(2)).all()
    assert (dropped.double().mean(0) - 0.3).abs().max() < 4 * math.sqrt(0.3 * 0.7 / 20_000)


def test_gaussian_noise_has_its_standard_deviation_in_every_coordinate():
    found, clean = noisy(gaussian_noise=0.25)
    difference = (found - clean).flatten(1)
    assert (difference.std(dim=0) - 0.25).abs().max() < 4 * 0.25 / math.sqrt(2 * 20_000)
    assert difference.mean(0).abs().max() < 4 * 0.25 / math.sqrt(20_000)


def test_noise_on_the_hard_feature_leaves_the_easy_one_as_it_is():
    levels = {"flip": 0.2, "gaussian_noise": 0.5, "dropout": 0.2}
    hard, clean = noisy(**levels, noisy_features="hard")
    both, _ = noisy(**levels)
    assert torch.equal(hard[:, 0], clean[:, 0])
    assert torch.equal(hard[:, 1], both[:, 1])


def test_levels_share_their_draws():
    low, high = (noisy(flip=level)[0] != TRAIN.inputs.view(-1, 2, 2) for level in (0.05, 0.1))
    assert (high | ~low).all()  # what is flipped at 5 % is flipped at 10 %


def test_every_epoch_is_a_permutation_of_its_own():
    order = batch_order(10, 3, seed=0)
    assert order.shape == (3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in order.tolist())
    assert len({tuple(epoch) for epoch in order.tolist()}) == 3


def test_a_longer_training_starts_with_the_same_epochs():
    assert torch.equal(batch_order(10, 5, seed=1)[:2], batch_order(10, 2, seed=1))
    assert not torch.equal(batch_order(10, 2, seed=1), batch_order(10, 2, seed=2))


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


def test_no_line_helps_on_a_full_turn_and_one_nearly_solves_a_slight_bend():
    bent, turned = (linear_baseline_error(sample(ToyData(complexity=c), seed=0, split="test")) for c in (90.0, 3600.0))
    assert bent < 0.01
    assert 0.4 < turned <= 0.5


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


def test_initial_weights_fill_pytorchs_bounds():
    weights = initial_weights(list(range(20)), hidden=50, last_layer_init=[2.0] * 20)
    for inputs, parts in ((2, (weights.w1, weights.b1)), (50, (weights.w2, weights.b2, weights.w3))):
        for part in parts:
            assert 0.95 * inputs**-0.5 < part.abs().max() <= inputs**-0.5
            assert abs(float(part.mean())) < 0.1 * inputs**-0.5
    assert (weights.v == 2.0).all()


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


def test_the_phantom_lies_at_distance_rho_along_the_gradient():
    moved = phantom(V, GRADIENT, RHO)
    assert (moved - V).norm(dim=1).tolist() == pytest.approx([0.5, 2.0])
    assert moved[0].tolist() == pytest.approx([1.3, 2.4])
    assert moved[1].tolist() == pytest.approx([-1.5, -1.0])


def test_a_zero_gradient_and_a_zero_radius_stay_where_they_are():
    assert torch.equal(phantom(V, torch.zeros_like(V), 100 * RHO), V)  # 100 rho over the smallest number overflows
    assert torch.equal(phantom(V, GRADIENT, torch.zeros(2, dtype=torch.float64)), V)


def terms(v=V, **settings):
    """Terms of two members with one intervention, at `v`; the initial v was (3, 4)."""
    initial = torch.tensor([[3.0, 4.0]] * 2, dtype=torch.float64)
    return replaced_terms(v, phantom(v, GRADIENT, RHO), replacement([Intervention(**settings)] * 2, initial))


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(("norm", "length"), [("initial", [5.0, 5.0]), ("matched", V.norm(dim=1).tolist())])
def test_the_fixed_vector_has_its_ratio_and_its_length(ratio, norm, length):
    hat = terms(term="both", ratio=ratio, norm=norm).rate
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
    moved = phantom(V, GRADIENT, RHO)
    for vector in replaced_terms(V, moved, settings):
        assert torch.equal(vector[0], moved[0])
    assert replacement([Intervention(), Intervention()], V) is None


def test_a_radius_that_grows_with_the_angle_is_the_fixed_one_at_a_full_turn_and_goes_on_growing():
    both = [ToyData(radius_profile=kind, uniform_noise=0.0) for kind in ("fixed", "angle")]
    full, angle = (sample(data, seed=1, split="train").inputs for data in both)
    assert torch.equal(full, angle)
    inner, outer = both[1].inner_radius, 0.1 + 0.9 * 1.5
    longer = sample(replace(both[1], complexity=540.0), seed=1, split="test").inputs[:, 2:].norm(dim=1) / 4.0
    assert inner <= longer.min() < 0.12 and 1.4 < longer.max() <= outer


def test_a_gap_of_zero_lets_the_easy_feature_reach_zero():
    wide, narrow = (sample(ToyData(easy_gap=gap), seed=0, split="test").inputs[:, 0].abs() for gap in (0.0, 0.5))
    assert wide.min() < 0.01 * 0.5 and narrow.min() >= 0.5 * 0.5 and wide.max() <= 0.5


def test_uniform_last_layers_differ_by_seed_and_stay_below_their_size():
    v = initial_weights(list(range(50)), hidden=3, last_layer_init=[2.0] * 50, last_layer_draw="uniform").v
    assert 0 <= v.min() < 0.2 and 1.8 < v.max() <= 2.0
    assert abs(v.mean().item() - 1.0) < 0.2


def test_a_sign_of_the_last_layer_can_be_moved_into_the_layer_below():
    weights = initial_weights([0, 0], hidden=6, last_layer_init=[1.5, 1.5])
    for part in (weights.v, weights.w3.view(2, 2, -1), weights.b3.view(2, 2)):
        part[1, 1] *= -1  # of the second member's hard feature
    engine = BatchedEngine(
        weights,
        learning_rate=[0.05] * 2,
        rho=[0.7] * 2,
        interventions=[Intervention()] * 2,
        batch_size=5,
        dtype=torch.float64,
    )
    order = batch_order(300, 1, seed=0).view(60, 1, 5).expand(-1, 2, -1)
    data = sample(ToyData(), seed=0, split="train")
    engine.run(data.inputs[order].view(60, 2, 5, 2, 2).transpose(2, 3), data.labels[order])
    assert torch.equal(engine.weights.v[0] * torch.tensor([1.0, -1.0]), engine.weights.v[1])
    assert engine.weights.v[0, 1] != 1.5
