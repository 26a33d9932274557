"""Normalisation statistics under two passes: counted once, never frozen for ever."""

import copy
from collections.abc import Callable
from functools import partial

import networks
import pytest
import torch
from torch import nn

from samlib.optim import SAM, normalization_statistics_frozen


def _spectral_network(wrap: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(wrap(nn.Linear(2, 4)))


BUILD = {
    "batch statistics": networks.normalised_network,
    "spectral norm": partial(_spectral_network, nn.utils.parametrizations.spectral_norm),
    "spectral norm of the older kind": partial(_spectral_network, nn.utils.spectral_norm),
}


@pytest.mark.parametrize("two_step", [False, True])
@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_buffers_advance_in_the_pass_at_w_only(build, two_step):
    network, plain = build(), build()
    sam = SAM(network.parameters(), rho=0.5, lr=0.0, module=network)
    for _ in range(2):  # later the vectors of spectral norm have converged
        before = [buffer.clone() for buffer in network.buffers()]
        networks.sam_step(sam, lambda: networks.backward(network(networks.inputs()).square().mean()), two_step=two_step)
        plain(networks.inputs())
        assert not all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(network.buffers(), plain.buffers(), strict=True))


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=None), nn.InstanceNorm1d(3, affine=True, track_running_stats=True)],
)
def test_frozen_layer_gives_the_same_output_and_keeps_its_buffers(layer):
    inputs = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(2))
    expected = copy.deepcopy(layer)(inputs)
    objects = dict(layer.named_buffers())
    buffers = {name: buffer.clone() for name, buffer in objects.items()}
    with normalization_statistics_frozen(layer):
        output = layer(inputs)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    output.square().sum().backward()  # a backward after the block finds all that it needs
    assert layer.weight.grad is not None
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in layer.named_buffers())
    assert all(buffer is objects[name] for name, buffer in layer.named_buffers()) and len(objects) == 3
    layer(inputs)
    assert not torch.equal(layer.running_mean, buffers["running_mean"])


def test_nested_overlapping_and_failing_freezes_leave_the_layer_tracking():
    layer, inputs = nn.BatchNorm1d(2), networks.inputs()
    with normalization_statistics_frozen(layer), normalization_statistics_frozen(layer):
        layer(inputs)
    first, second = normalization_statistics_frozen(layer), normalization_statistics_frozen(layer)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="inside"), normalization_statistics_frozen(layer):
        raise RuntimeError("inside")
    assert int(layer.num_batches_tracked) == 0
    layer(inputs)
    assert int(layer.num_batches_tracked) == 1 and layer.momentum == 0.1
    assert layer.running_mean.abs().sum() > 0


def test_a_layer_that_cannot_be_frozen_leaves_the_others_tracking():
    class Scripted(nn.Module):
        track_running_stats = property(lambda self: True)  # torch.jit makes it a constant

    network = nn.Sequential(nn.BatchNorm1d(2), Scripted())
    with pytest.raises(AttributeError, match="track_running_stats"), normalization_statistics_frozen(network):
        pass
    assert network[0].track_running_stats


def test_layer_in_evaluation_mode_or_without_statistics_is_left_alone():
    evaluated, free = nn.BatchNorm1d(2).eval(), nn.BatchNorm1d(2, track_running_stats=False)
    with normalization_statistics_frozen(nn.Sequential(evaluated, free)):
        assert evaluated.track_running_stats and not free.track_running_stats
    assert evaluated.track_running_stats and not free.track_running_stats
