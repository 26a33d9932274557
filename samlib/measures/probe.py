"""Linear probes on frozen features, errors by group, and balanced subsets (Eq 1)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samlib.config import check_choice, check_number
from samlib.shapes import Bool, Float, Int64

STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01, 0.003, 0.001)
PENALTIES = ("l2", "l1")


class FrozenFeatures(NamedTuple):
    """Features of a set of examples, the label a probe is to read from them, and the examples' groups."""

    features: Float[Tensor, "example feature"]
    labels: Int64[Tensor, " example"]
    groups: Int64[Tensor, " example"]


class ProbeResult(NamedTuple):
    """What one probe gave.

    Attributes:
        error: mean of the group errors, i.e. the error on the balanced distribution.
        worst_group_error: largest of the group errors.
        group_errors, group_counts: error and number of test examples of groups 0, 1, ...
        strength: the chosen C, the inverse of the L2 penalty's weight.
        held_out_error: at the chosen C, error on the examples held out while it was chosen; None where one C is given.
    """

    error: float
    worst_group_error: float
    group_errors: list[float]
    group_counts: list[int]
    strength: float
    held_out_error: float | None = None


def probe_error(
    train: FrozenFeatures,
    test: FrozenFeatures,
    *,
    n_groups: int,
    generator: torch.Generator,
    strengths: Sequence[float] = STRENGTHS,
    held_out_share: float = 0.25,
    n_folds: int = 0,
    penalty: str = "l2",
) -> ProbeResult:
    """Train a linear probe on balanced frozen features and measure its error on others (Eq 1).

    Multinomial logistic regression with an L2 penalty, on features standardized by the mean and standard
    deviation of the probe training set. C is the one with the lowest error on a held-out quarter of that set, or in a
    cross-validation over all of it (the smallest such C); then the probe is trained again on all of it. Test labels
    choose nothing.

    Our copy of the paper states neither penalty nor selection: ours follow Kirichenko et al. (2022), but with
    L2 for L1 and two smaller values of C, since L2 often chose the smallest of theirs.

    Args:
        train: probe training set; every group 0..n_groups-1 with the same number of examples, at least 2.
        test: probe test set; every group present.
        n_groups: number of groups, K^2 for two features of K classes.
        generator: decides which training examples are held out while C is chosen.
        strengths: values of C to try, all > 0.
        held_out_share: share of each group held out, within [.01, .99]; not used with folds.
        n_folds: 0 holds one share out; 2 or more is a cross-validation with so many folds, each with its share of
            every group.
        penalty: "l2" or, without folds and for labels 0 and 1 alone, "l1".
    Returns:
        Errors as shares of 1; see `ProbeResult`.
    Raises:
        ValueError: empty or misshapen sets, parts that are no tensors, non-finite features, an absent group, groups of
            several sizes in `train`, or one class alone there or in what remains of it while C is chosen.
    Side effects:
        Advances the generator; none otherwise.
    """
    check_number("held_out_share", held_out_share, low=0.01, high=0.99)
    check_choice("penalty", penalty, PENALTIES[:1] if n_folds else PENALTIES)
    strengths = tuple(float(c) for c in strengths)
    if not strengths or not all(0 < c < math.inf for c in strengths):
        raise ValueError(f"strengths: expected one or more finite C > 0, got {strengths}; {STRENGTHS} is usual")
    _check_set("train", train, n_groups)
    _check_set("test", test, n_groups)
    if train.features.shape[1] != test.features.shape[1]:
        raise ValueError(
            f"test: expected {train.features.shape[1]} features as in train, got {test.features.shape[1]}; "
            f"take both from the same network"
        )
    _check_classes("train", train.labels)
    error_of_choice: float | None
    if n_folds:
        answers, strength, error_of_choice = _cross_validated(train, test, strengths, n_folds, generator, n_groups)
    else:
        strength, error_of_choice = _choose_strength(train, strengths, held_out_share, generator, n_groups, penalty)
        answers = _predict(train, test.features, strength, penalty)
    wrong = answers != test.labels.cpu()
    errors, counts = group_errors(wrong, test.groups.cpu(), n_groups=n_groups)
    error = sum(errors) / n_groups
    return ProbeResult(error, max(errors), errors, counts, strength, error_of_choice)


def fit_probe(
    features: Float[Tensor, "example feature"],
    labels: Int64[Tensor, " example"],
    *,
    strength: float,
    penalty: str = "l2",
) -> Any:
    """Train one linear probe: features standardized, then logistic regression with an L2 or an L1 penalty.

    Args:
        features: of the probe training set, finite; half precisions are read in single precision.
        labels: what to read from them, at least two classes.
        strength: C, the inverse of the penalty's weight, > 0.
        penalty: one of `PENALTIES`; "l1", for labels 0 and 1 alone, as in Kirichenko et al. (2022): liblinear's solver,
            whose intercept is penalized too.
    Returns:
        A scikit-learn pipeline: `predict` and `decision_function` take an array of features, not standardized.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_choice("penalty", penalty, PENALTIES)
    how: dict[str, Any] = {} if penalty == "l2" else {"l1_ratio": 1, "solver": "liblinear", "random_state": 0}
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000, **how))
    return pipeline.fit(as_array(features), labels.cpu().numpy())


def group_errors(
    wrong: Bool[Tensor, " example"], groups: Int64[Tensor, " example"], *, n_groups: int
) -> tuple[list[float], list[int]]:
    """Return every group's share of wrong predictions and its number of examples.

    Args:
        wrong: which examples are misclassified.
        groups: group of each example, 0..n_groups-1.
        n_groups: number of groups.
    Returns:
        Errors and counts, in the order of the groups.
    Raises:
        TypeError: `wrong` is not of booleans.
        ValueError: different lengths, a group out of range, or a group without examples (never 0 or NaN).

    >>> group_errors(torch.tensor([True, False, False]), torch.tensor([0, 0, 1]), n_groups=2)
    ([0.5, 0.0], [2, 1])
    """
    if wrong.dtype != torch.bool:
        raise TypeError(f"wrong: expected booleans, got {wrong.dtype}; pass `predictions != labels`")
    if wrong.shape != groups.shape:
        raise ValueError(
            f"wrong: expected shape {tuple(groups.shape)} as of groups, got {tuple(wrong.shape)}; "
            f"pass both for the same examples"
        )
    counts = _group_counts("groups", groups, n_groups)
    totals = torch.bincount(groups[wrong], minlength=n_groups).tolist()
    return [total / count for total, count in zip(totals, counts, strict=True)], counts


def balanced_rows(
    groups: Int64[Tensor, " example"],
    *,
    n_groups: int,
    generator: torch.Generator,
    per_group: int | None = None,
) -> Int64[Tensor, " row"]:
    """Draw the same number of examples from every group, without replacement.

    Args:
        groups: group of each example, 0..n_groups-1.
        n_groups: number of groups.
        generator: decides which examples are drawn.
        per_group: examples of each group; None is the size of the smallest.
    Returns:
        Row numbers, ordered by group; new tensor.
    Raises:
        ValueError: a group is absent or smaller than per_group.

    >>> balanced_rows(torch.tensor([0, 1, 1]), n_groups=2, generator=torch.Generator()).shape
    torch.Size([2])
    """
    counts = _group_counts("groups", groups, n_groups)
    size = min(counts) if per_group is None else per_group
    if not 1 <= size <= min(counts):
        raise ValueError(
            f"per_group: expected 1 to {min(counts)}, the smallest of the group sizes {counts}, got {size}; "
            f"lower it or use a larger set"
        )
    members = [torch.nonzero(groups.cpu() == group)[:, 0] for group in range(n_groups)]
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)[:size]] for rows in members])


def in_their_span(
    train: Float[Tensor, "example feature"], test: Float[Tensor, "other feature"]
) -> tuple[Float[np.ndarray, "example coordinate"], Float[np.ndarray, "other coordinate"]]:
    """Standardize features by the training set; where it has fewer examples than features, rotate into their span.

    The weights of a linear model with an L2 penalty lie in the span of the training examples, so that the same model
    is found in as many coordinates as there are examples: exactly, and faster. With X X' = U diag(s) U', the training
    examples are U sqrt(s), and others are X_other X' U / sqrt(s).

    Args:
        train, test: features, finite.
    Returns:
        Both sets in the same coordinates, double precision; new arrays.
    """
    x, other = (features.detach().cpu().double().numpy() for features in (train, test))
    mean, std = x.mean(0), x.std(0)
    std[std <= 10 * np.finfo(float).eps * len(x) * abs(mean)] = 1.0  # constant, but for the rounding of the mean
    x, other = (x - mean) / std, (other - mean) / std
    if len(x) >= x.shape[1]:
        return x, other
    squares, directions = np.linalg.eigh(x @ x.T)
    kept = squares > 1e-10 * squares[-1]  # centring takes one direction away
    kept[-1] = True  # of a dead network's features, which never vary, too
    scales = np.sqrt(squares[kept])
    return directions[:, kept] * scales, other @ x.T @ (directions[:, kept] / np.where(scales == 0, 1, scales))


def _cross_validated(
    train: FrozenFeatures,
    test: FrozenFeatures,
    strengths: Sequence[float],
    n_folds: int,
    generator: torch.Generator,
    n_groups: int,
) -> tuple[Int64[Tensor, " example"], float, float]:
    """Choose the smallest C of the lowest cross-validated error; return test answers, that C and that error."""
    from sklearn.linear_model import LogisticRegression

    size = _group_size(train, n_groups)
    check_number("n_folds", n_folds, low=2, high=size, integer=True, advice="every fold needs examples of every group")
    rows = balanced_rows(train.groups, n_groups=n_groups, generator=generator).view(n_groups, size)
    fold = torch.empty(len(train.labels), dtype=torch.int64)
    fold[rows] = torch.arange(size) % n_folds
    for i in range(n_folds):
        _check_classes("train without a fold", train.labels[fold != i])
    held_out = [(fold == i).numpy() for i in range(n_folds)]
    x, other = in_their_span(train.features, test.features)
    labels = train.labels.cpu().numpy()

    wrong = dict.fromkeys(sorted(strengths), 0)
    for out in held_out:
        # From the strongest penalty on, each fit begins where the last one ended.
        probe = LogisticRegression(max_iter=2000, warm_start=True)
        for c in wrong:
            probe.set_params(C=c).fit(x[~out], labels[~out])
            wrong[c] += int((probe.predict(x[out]) != labels[out]).sum())
    best = min(wrong, key=lambda c: (wrong[c], c))
    answers = LogisticRegression(C=best, max_iter=2000).fit(x, labels).predict(other)
    return torch.from_numpy(answers), best, wrong[best] / len(labels)


def _choose_strength(
    train: FrozenFeatures,
    strengths: Sequence[float],
    share: float,
    generator: torch.Generator,
    n_groups: int,
    penalty: str,
) -> tuple[float, float | None]:
    """Return the smallest C with the lowest error on the held-out part, the same share of every group; and that."""
    size = _group_size(train, n_groups)
    if len(strengths) == 1:
        return strengths[0], None
    rows = balanced_rows(train.groups, n_groups=n_groups, generator=generator).view(n_groups, size)
    n_held_out = min(max(1, math.floor(share * size)), size - 1)
    held_out, kept = rows[:, :n_held_out].flatten(), rows[:, n_held_out:].flatten()
    fitted = FrozenFeatures(*(part[kept] for part in train))
    _check_classes("train without the held-out part", fitted.labels)
    labels = train.labels[held_out].cpu()
    wrong = {c: (_predict(fitted, train.features[held_out], c, penalty) != labels).sum().item() for c in set(strengths)}
    best = min(wrong, key=lambda c: (wrong[c], c))
    return best, wrong[best] / len(held_out)


def _group_size(train: FrozenFeatures, n_groups: int) -> int:
    """Return how many examples every group has; refuse groups of several sizes."""
    counts = set(_group_counts("train.groups", train.groups, n_groups))
    if len(counts) > 1 or min(counts) < 2:
        raise ValueError(
            f"train: expected groups of one size, at least 2, got sizes {sorted(counts)}; "
            f"take the rows that balanced_rows returns"
        )
    return min(counts)


def _predict(
    train: FrozenFeatures, features: Float[Tensor, "row feature"], strength: float, penalty: str
) -> Int64[Tensor, " row"]:
    probe = fit_probe(train.features, train.labels, strength=strength, penalty=penalty)
    return torch.from_numpy(probe.predict(as_array(features)))


def as_array(features: Float[Tensor, "row feature"]) -> Float[np.ndarray, "row feature"]:
    """Return features for scikit-learn; numpy has no bfloat16, and half precision would be standardized in itself."""
    features = features.detach().cpu()
    return (features.float() if features.dtype in (torch.bfloat16, torch.float16) else features).numpy()


def _check_classes(name: str, labels: Int64[Tensor, " example"]) -> None:
    if len(labels.unique()) < 2:
        raise ValueError(
            f"{name}: expected labels of two classes or more, got only {labels[0].item()}; pass several examples of "
            f"every label that the probe is to tell apart"
        )


def _check_set(name: str, data: FrozenFeatures, n_groups: int) -> None:
    for field, part in zip(data._fields, data, strict=True):
        if not isinstance(part, Tensor) or (field != "features" and part.dtype.is_floating_point):
            kind, found = "floats" if field == "features" else "integers", getattr(part, "dtype", type(part).__name__)
            raise ValueError(f"{name}: expected {field} as a tensor of {kind}, got {found}; convert it")
    n = len(data.features)
    if not data.features.is_floating_point():
        raise ValueError(
            f"{name}: expected features of a floating type, got {data.features.dtype}; pass the output of the trunk"
        )
    if data.features.ndim != 2 or n == 0:
        raise ValueError(
            f"{name}: expected features of shape (example, feature) with at least one example, got "
            f"{tuple(data.features.shape)}; pass the trunk's flattened output for a set that is not empty"
        )
    for field in ("labels", "groups"):
        shape = tuple(getattr(data, field).shape)
        if shape != (n,):
            raise ValueError(f"{name}: expected {field} of shape ({n},), got {shape}; pass one for each example")
    if not torch.isfinite(data.features).all():
        raise ValueError(f"{name}: expected finite features, got NaN or infinity; the network has diverged")
    _group_counts(f"{name}.groups", data.groups, n_groups)


def _group_counts(name: str, groups: Int64[Tensor, " example"], n_groups: int) -> list[int]:
    """Count the examples of every group; refuse groups out of range and absent ones."""
    if len(groups) and (groups.min() < 0 or groups.max() >= n_groups):
        raise ValueError(
            f"{name}: expected values 0..{n_groups - 1}, got {int(groups.min())}..{int(groups.max())}; "
            f"number groups as label * n_attributes + attribute and pass n_groups"
        )
    counts = torch.bincount(groups, minlength=n_groups).tolist()
    absent = [group for group, count in enumerate(counts) if count == 0]
    if absent:
        raise ValueError(
            f"{name}: expected examples of every group 0..{n_groups - 1}, got none of {absent}; "
            f"use a larger set or leave the group out of n_groups"
        )
    return counts
