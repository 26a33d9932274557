"""From configurations to a table: train what is listed, a row a seed. What it needs is imported when it is called."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def sweep(configs: Iterable[Any], *, data_root: str | Path | None = None, device: str = "cpu") -> "pd.DataFrame":
    """Train every configuration and tabulate what was measured; nothing is kept on disk.

    Toy configurations of one shape (width, batch size, steps, set sizes) are trained together, which is many times
    faster than one by one; the grouping changes no result.

    Args:
        configs: `samlib.toy.config.ToyConfig`, `samlib.methods.config.ControlConfig`, or
            `samlib.images.config.PairConfig`; kinds may be mixed, though their columns differ.
        data_root: folder of the real data sets, for configurations that name one; left out, $SAMLIB_DATA.
        device: where to train, such as "cpu" or "cuda"; control configurations use the CPU.
    Returns:
        One row per (configuration, seed), in the order given. Columns: every field of the configuration (those of its
        data and intervention too), "seed", and every metric of the kind but its curves; errors are shares of 1.
    Raises:
        ValueError: no configuration.
        TypeError: something else than a configuration.

    >>> from samlib.toy.config import ToyConfig
    >>> short = ToyConfig(hidden=4, n_steps=12, n_snapshots=1, seeds=(0, 1)).vary(n_train=30, n_test=20)
    >>> sweep([short.vary(rho=rho) for rho in (0.0, 0.5)])[["rho", "seed"]].values.tolist()
    [[0.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.5, 1.0]]
    """
    import pandas as pd

    from samlib.config import to_dict
    from samlib.data_root import data_root as folder_of
    from samlib.images.config import PairConfig
    from samlib.methods.config import ControlConfig
    from samlib.toy.config import ToyConfig
    from samlib.toy.training import best_engine, train_toy

    listed = list(configs)
    if not listed:
        raise ValueError("configs: expected one configuration or more, got none; list them")
    for config in listed:  # before anything is trained, for nothing is kept of a call that fails
        if not isinstance(config, ToyConfig | ControlConfig | PairConfig):
            raise TypeError(
                f"configs: expected ToyConfig, ControlConfig or PairConfig, got {type(config).__name__}; list those"
            )
    folder = folder_of(data_root)
    shapes: dict[Any, list[int]] = {}
    found: dict[int, Mapping[str, Any]] = {}
    for place, config in enumerate(listed):
        if isinstance(config, ToyConfig):
            shapes.setdefault(config.shape, []).append(place)
        elif isinstance(config, ControlConfig):
            from samlib.methods.train import train_method

            found[place] = train_method(config, root=folder)
        else:
            from samlib.images.pairs import train_pair
            from samlib.images.tiles import load_pair

            found[place] = train_pair(config, load_pair(config.pair, folder), device=device).metrics
    for places in shapes.values():
        same = [listed[place] for place in places]
        results = train_toy(same, device=device, engine=best_engine(device, same[0].n_steps))
        found |= {place: result.metrics for place, result in zip(places, results, strict=True)}
    return pd.DataFrame([row for place, config in enumerate(listed) for row in rows(to_dict(config), found[place])])


def rows(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a seed of one run: the configuration's fields, "seed", and every metric but the curves.

    Args:
        config: plain values; nested ones are lifted next to the others, lists dropped.
        metrics: one value a seed where the configuration has "seeds", one value where it has "seed".

    >>> rows({"rho": 1.0, "data": {"complexity": 360.0}, "seeds": [3, 4]}, {"error": [0.1, 0.2]})[1]
    {'rho': 1.0, 'complexity': 360.0, 'error': 0.2, 'seed': 4}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= value
        elif not isinstance(value, list):
            flat[name] = value
    measured = {name: value for name, value in metrics.items() if name != "curves"}
    if "seeds" not in config:
        return [flat | measured]
    return [
        flat | {name: values[index] for name, values in measured.items()} | {"seed": seed}
        for index, seed in enumerate(config["seeds"])
    ]
