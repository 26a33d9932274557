"""SAM and LSAM where one autocast block holds more than a forward pass: cached casts follow the weights."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import networks
import pytest
import torch
from torch import Tensor, nn

from samlib.optim import LSAM, SAM

pytestmark = pytest.mark.filterwarnings("error")

N_STEPS = 10
_network = partial(networks.network, hidden=32)


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 3, generator=generator), torch.randint(0, 2, (16,), generator=generator)


def _autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def _backward(network: nn.Module, *, inside: bool) -> Tensor:
    inputs, targets = _batch()
    with _autocast() if inside else nullcontext():
        loss = nn.functional.cross_entropy(network(inputs), targets)
    loss.backward()
    return loss.detach()


def _one_block_a_step(network: nn.Module, sam: SAM) -> None:
    for _ in range(N_STEPS):
        with _autocast():
            sam.step(lambda: _backward(network, inside=False))


def _one_block_for_both_passes(network: nn.Module, sam: SAM) -> None:
    for _ in range(N_STEPS):
        with _autocast():
            _backward(network, inside=False)
            sam.ascent_step()
            _backward(network, inside=False)
        sam.descent_step()


def _one_block_for_all_steps(network: nn.Module, sam: SAM) -> None:
    with _autocast():
        for _ in range(N_STEPS):
            sam.step(lambda: _backward(network, inside=False))


def _block_inside_the_closure(network: nn.Module, sam: SAM) -> None:
    for _ in range(N_STEPS):
        sam.step(lambda: _backward(network, inside=True))


def _trained(run: Callable[[nn.Module, SAM], None], rho: float) -> Tensor:
    network = _network()
    run(network, SAM(network.parameters(), torch.optim.SGD, rho=rho, lr=0.5))
    return networks.weights(network)


@pytest.mark.parametrize("run", [_one_block_a_step, _one_block_for_both_passes, _one_block_for_all_steps])
def test_autocast_around_the_step_equals_autocast_inside_the_closure(run):
    expected = _trained(_block_inside_the_closure, 0.5)
    assert not torch.allclose(expected, _trained(_block_inside_the_closure, 0.0))
    assert torch.equal(_trained(run, 0.5), expected)


def test_autocast_around_many_steps_at_radius_zero():
    assert torch.equal(_trained(_one_block_for_all_steps, 0.0), _trained(_block_inside_the_closure, 0.0))


def test_restore_inside_an_autocast_block_lets_the_next_pass_see_w():
    network = _network()
    sam = SAM(network.parameters(), rho=5.0, lr=0.1)
    with _autocast():
        at_w = _backward(network, inside=False)
        sam.ascent_step()
        assert _backward(network, inside=False) != at_w
        sam.restore()
        assert _backward(network, inside=False) == at_w


def test_lsam_in_one_autocast_block_for_all_steps():
    def trained(*, inside: bool) -> Tensor:
        network = _network()
        lsam = LSAM(network[:2], network[2], torch.optim.SGD(network.parameters(), lr=0.5), rho=0.5)
        with nullcontext() if inside else _autocast():
            for _ in range(N_STEPS):
                with _autocast() if inside else nullcontext():
                    lsam.step(*_batch())
        return networks.weights(network)

    assert torch.equal(trained(inside=False), trained(inside=True))
