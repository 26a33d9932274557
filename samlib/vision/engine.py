"""Networks of one shape that take every step together: each has its own weights, images, batches, step size and radius.

Images lie channel last behind the member axis: (member, batch, height, width, channel). A convolution is one batched
matrix product of all members' patches with their filters, and its result needs no rearrangement for the next.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samlib.shapes import Float, Int64
from samlib.vision.backbones import ConvNet
from samlib.vision.pairs import ImageSet

Convolution = Callable[..., Tensor]
_WARM_UP = 3  # steps before a CUDA graph is captured, in which libraries choose and allocate


class Ensemble:
    """Networks of one shape under SAM (Eq 3) with momentum, or SGD (rho = 0), taking each step together.

    The perturbation's norm is each member's own, over all its parameters jointly; a zero gradient gives none. If
    every rho is 0 there is no second pass.

    Args:
        networks: initial networks, one a member, on the device and in the precision to train in; copied.
        data: all images and labels that steps refer to by row number; the first label column is learned.
        mean: what `mean_pixel` returned for the training images of each member.
        rho: perturbation radius of each member, parameter units.
        momentum: of all members.
        batch_size: images a step and member.
        convolution: how to convolve; see `convolve`.
    Side effects:
        On a GPU a step is captured as a CUDA graph at once, which leaves the weights as they are; a warning where
        that fails, and steps are then launched one kernel after the other.
    """

    def __init__(
        self,
        networks: Sequence[ConvNet],
        data: ImageSet,
        *,
        mean: Sequence[float],
        rho: Sequence[float],
        momentum: float,
        batch_size: int,
        convolution: Convolution | None = None,
    ) -> None:
        self.weights = torch.stack([_packed(network) for network in networks])  # (member, parameter)
        self.velocity = torch.zeros_like(self.weights)
        self._convolve = convolve if convolution is None else convolution
        self._layers = [_geometry(layer) for layer in _convolutions(networks[0])]
        self._sizes = [view.numel() for view in _views(networks[0])]
        self._data = data
        self._mean = self.weights.new_tensor(mean)[:, None, None, None, None]
        self._rho = self.weights.new_tensor(rho)[:, None]
        self._perturbed = any(rho)
        self._momentum = momentum
        self._batch = batch_size
        self._losses = self.weights.new_zeros(len(networks))
        # What a captured step reads: row numbers and step sizes are copied here before each replay.
        self._rows = torch.zeros(len(networks), batch_size, dtype=torch.int64, device=self.weights.device)
        self._rates = self.weights.new_zeros(len(networks), 1)
        self._graph = self._captured() if self.weights.is_cuda else None

    def run(self, order: Int64[Tensor, "member example"], rates: Float[Tensor, "step member"]) -> list[float]:
        """Take one step with every member on each batch in turn, in place.

        Args:
            order: row numbers in the data, cut into batches along the second axis; on any device.
            rates: step sizes, as many steps as batches; the last batch may be smaller.
        Returns:
            Each member's loss at w, mean over the batches.
        Side effects:
            `weights` and `velocity` change in place. Waits for the device once, at the end.
        """
        order, rates = order.to(self.weights.device), rates.to(self.weights)[:, :, None]
        self._losses.zero_()
        for rows, rate in zip(order.split(self._batch, 1), rates, strict=True):
            if self._graph is None or rows.shape != self._rows.shape:
                self._step(rows, rate)
            else:
                self._rows.copy_(rows)
                self._rates.copy_(rate)
                self._graph.replay()
        return [total / len(rates) for total in self._losses.tolist()]

    @torch.no_grad()
    def misses(self, data: ImageSet, rows: Int64[Tensor, "member example"]) -> list[int]:
        """Count the images on which each member's answer differs from the first label.

        Args:
            data: images and labels, on the members' device.
            rows: row numbers in the data.
        """
        wrong = torch.zeros(len(rows), dtype=torch.int64, device=self.weights.device)
        for part in rows.to(wrong.device).split(self._batch, 1):
            answers = self._logits(self.weights, self._normalized(data, part)).argmax(2)
            wrong += (answers != data.labels[part, 0]).sum(1)
        return wrong.tolist()

    def fill(self, networks: Sequence[ConvNet]) -> None:
        """Write each member's weights into a network, in place."""
        with torch.no_grad():
            for network, weights in zip(networks, self.weights, strict=True):
                for view, part in zip(_views(network), weights.split(self._sizes), strict=True):
                    view.copy_(part.view(view.shape))

    @torch.no_grad()
    def _step(self, rows: Tensor, rates: Tensor) -> None:
        """Take one step and add each member's loss at w to the sums."""
        images, labels = self._normalized(self._data, rows), self._data.labels[rows, 0]
        losses, gradient = self._gradient(self.weights, images, labels)
        if self._perturbed:
            norm = gradient.norm(dim=1, keepdim=True)
            factor = (self._rho / norm).masked_fill_(norm == 0, 0)
            _, gradient = self._gradient(torch.addcmul(self.weights, gradient, factor), images, labels)
        self.velocity.mul_(self._momentum).add_(gradient)
        self.weights.addcmul_(self.velocity, rates, value=-1)
        self._losses += losses

    def _gradient(self, weights: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's mean loss and its gradient: that of the sum, since no weight enters two members' losses."""
        with torch.enable_grad():
            weights = weights.detach().requires_grad_()
            logits = self._logits(weights, images)
            losses = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            losses = losses.view_as(labels).mean(1)
            (gradient,) = torch.autograd.grad(losses.sum(), weights)
        return losses.detach(), gradient

    def _logits(self, weights: Tensor, images: Tensor) -> Tensor:
        """All members' networks: (member, batch, 64, 32, 3) to (member, batch, class)."""
        parts = iter(weights.split(self._sizes, 1))
        x = images
        for geometry in self._layers:
            weight, bias = next(parts), next(parts)[:, None]
            x = self._convolve(x, weight.unflatten(1, (-1, bias.shape[2])), bias, **geometry).relu_()
        weight, bias = next(parts), next(parts)[:, None]
        return torch.baddbmm(bias, x.flatten(2), weight.unflatten(1, (-1, bias.shape[2])))

    def _normalized(self, data: ImageSet, rows: Tensor) -> Tensor:
        """Gather images, scale them to 0..1, subtract each member's mean pixel, and put the channels last."""
        images = data.images[rows].to(self._mean.dtype).div_(255).sub_(self._mean)
        return images.permute(0, 1, 3, 4, 2)

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        """Record a step on a full batch as a CUDA graph, or warn and return None; the weights stay as they are."""
        changed = (self.weights, self.velocity, self._losses)
        saved = [part.clone() for part in changed]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self.weights.device):
                beside = torch.cuda.Stream()
                beside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(beside):
                    for _ in range(_WARM_UP):
                        self._step(self._rows, self._rates)
                torch.cuda.current_stream().wait_stream(beside)
                with torch.cuda.graph(graph):
                    self._step(self._rows, self._rates)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph, training goes on kernel by kernel and slower: {error}", stacklevel=3)
            return None
        finally:
            for part, values in zip(changed, saved, strict=True):
                part.copy_(values)
        return graph


def convolve(
    images: Float[Tensor, "member batch height width channel"],
    weight: Float[Tensor, "member patch filter"],
    bias: Float[Tensor, "member 1 filter"],
    *,
    kernel: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "member batch height2 width2 filter"]:
    """Convolve every member's images with its own filters: patches times filters, one batched matrix product.

    Args:
        images: on any device.
        weight: filters; a patch is (kernel row, kernel column, channel), flattened.
        bias: added to every place.
        kernel, stride, padding: as of nn.Conv2d, equal along both axes; padding is with zeros.
    """
    members, batch, height, width, _ = images.shape
    places = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    columns = _Patches.apply(images, kernel, stride, padding)
    return torch.baddbmm(bias, columns, weight).view(members, batch, *places, -1)


class _Patches(torch.autograd.Function):
    """Copy every patch into a row: (member, batch, height, width, channel) to (member, row, patch).

    Written out because the gradient of `Tensor.unfold` took four times as long as these sums (on a CPU).
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        """Pad and copy."""
        padded = nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
        patches = padded.unfold(2, kernel, stride).unfold(3, kernel, stride).permute(0, 1, 2, 3, 5, 6, 4)
        ctx.geometry = padded.shape, patches.shape, stride, padding
        return patches.reshape(len(images), patches.shape[1:4].numel(), patches.shape[4:].numel())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        """Add up what each pixel got from the patches that it is in, always in the same order."""
        padded, patches, stride, padding = ctx.geometry
        rows, columns, kernel = patches[2], patches[3], patches[4]
        total = gradient.new_zeros(padded)
        for i in range(kernel):
            for j in range(kernel):
                place = total[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride]
                place += gradient.view(patches)[:, :, :, :, i, j]
        inside = slice(padding, padded[2] - padding), slice(padding, padded[3] - padding)
        return total[:, :, *inside], None, None, None


def _views(network: ConvNet) -> list[Tensor]:
    """A network's parameters, reordered without a copy: weights as (place, channel, output), then biases, by layer."""
    layers: list[nn.Conv2d | nn.Linear] = [*_convolutions(network), network.head]
    channels = [layer.in_channels for layer in _convolutions(network)]
    views: list[Tensor] = []
    for layer, count in zip(layers, [*channels, _convolutions(network)[-1].out_channels], strict=True):
        assert layer.bias is not None, "every layer of the backbones has a bias"
        views += [layer.weight.detach().view(len(layer.weight), count, -1).permute(2, 1, 0), layer.bias.detach()]
    return views


def _convolutions(network: ConvNet) -> list[nn.Conv2d]:
    """The trunk's convolutions, in their order."""
    return [layer for layer in network.trunk if isinstance(layer, nn.Conv2d)]


def _geometry(layer: nn.Conv2d) -> dict[str, int]:
    """What `convolve` needs to know of a layer, which must be the same along both axes."""
    return {"kernel": layer.kernel_size[0], "stride": layer.stride[0], "padding": int(layer.padding[0])}


def _packed(network: ConvNet) -> Tensor:
    """A network's parameters as one vector; a copy."""
    return torch.cat([view.flatten() for view in _views(network)])
