"""Panels over records: gains by data set and epoch, and by target and radius, on records whose answers are known."""

import pandas as pd
import pytest
from test_transfer_claims import trial

from edition.widgets import gain_explorer, target_explorer


def curves(*gains: float) -> pd.DataFrame:
    """Two epochs, a seed for each gain: SGD errs by .3 on the hard feature, SAM by the gain less; the easy one ties."""
    rows = []
    for seed, gain in enumerate(gains):
        for epoch in (1, 2):
            for method, hard in (("SGD", 0.3), ("SAM", 0.3 - gain * epoch / 2)):
                rows += [(seed, method, epoch, "hard", hard), (seed, method, epoch, "easy", 0.1)]
    return pd.DataFrame(rows, columns=["seed", "method", "epoch", "role", "error"])


def test_gains_are_shown_data_set_by_data_set_with_the_last_epochs_difference():
    frames = gain_explorer({"A": curves(0.1, 0.1, 0.1), "B": curves(0.02)})
    assert frames.texts == ("A", "B")
    a, b = (picture.alt for picture in frames.pictures)
    assert a.startswith("A: ") and "epoch 2" in a and "n = 3 seeds" in a
    assert "−10.00 [in every seed] for the hard feature, 0.00 [in every seed] for the easy feature" in a
    assert "−2.00 (one seed, no interval) for the hard feature" in b and "n = 1 seeds" in b


def test_targets_open_at_their_mean_and_count_the_seeds_above_zero():
    records = [
        record
        for target, sam in (("photo", (0.82, 0.79)), ("sketch", (0.84, 0.85)))
        for seed, accuracy in enumerate(sam)
        for record in trial(target, seed, 0.80, accuracy)
    ]
    frames = target_explorer(records)
    assert frames.texts == ("mean of the targets", "Photo", "Sketch")
    mean, photo, sketch = (picture.alt for picture in frames.pictures)
    assert len({picture.png for picture in frames.pictures}) == 3
    # Means over targets, seed by seed: (2 + 4) / 2 and (-1 + 5) / 2 points; on Photo 2 and -1.
    assert "SAM, ρ = 0.05 +2.50 [" in mean and "above zero in 2 of 2 seeds" in mean
    assert "SAM, ρ = 0.05 +0.50 [" in photo and "above zero in 1 of 2 seeds" in photo
    assert "before training −10.00 [in every seed], above zero in 0 of 2 seeds" in sketch


def test_no_data_set_is_refused():
    with pytest.raises(ValueError, match="data set: expected one or more values, got none"):
        gain_explorer({})
