"""Configurations: frozen dataclasses that check themselves, and their lossless form as plain dictionaries."""

import dataclasses
import functools
import math
import typing
from typing import Any, TypeVar

Config = TypeVar("Config")


def check_number(
    name: str,
    value: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    integer: bool = False,
    advice: str = "",
) -> None:
    """Refuse a value that is not a finite number in [low, high].

    Args:
        name: the field's name, repeated in the message.
        value: the number to check. Booleans are refused: True is not a width.
        low, high: inclusive bounds.
        integer: whether only whole numbers are allowed.
        advice: what to do instead, appended to the message.
    Raises:
        TypeError: value is not a number (or not an int where `integer`).
        ValueError: value is NaN, infinite or out of bounds.

    >>> check_number("rho", 0.1, low=0)
    """
    kinds = (int,) if integer else (int, float)
    wanted = "a whole number" if integer else "a finite number"
    bounds = f" in [{low:g}, {high:g}]" if math.isfinite(low) or math.isfinite(high) else ""
    tail = f"; {advice}" if advice else ""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name}: expected {wanted}{bounds}, got {value!r} ({type(value).__name__}){tail}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name}: expected {wanted}{bounds}, got {value!r}{tail}")


def check_seeds(config: Any, *, least: int = 1) -> None:
    """Make a configuration's `seeds` a tuple, which can be an address, and refuse what is no set of root seeds.

    Args:
        config: a frozen dataclass that is being made; its `seeds` are changed.
        least: how many it needs.
    Raises:
        TypeError: a seed is no whole number.
        ValueError: too few, one twice, or one below 0.
    """
    seeds = tuple(config.seeds) if isinstance(config.seeds, list | tuple | range) else (config.seeds,)
    for seed in seeds:
        check_number("seeds", seed, low=0, integer=True)
    if len(seeds) < least or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected {least} or more different whole numbers, got {seeds}; list each once")
    object.__setattr__(config, "seeds", seeds)


def check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of the choices; the message lists them.

    >>> check_choice("loss", "logistic", ("logistic", "exponential"))
    """
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}; pick one of these")


def to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration as nested dictionaries and lists of plain values (a copy).

    >>> @dataclasses.dataclass(frozen=True)
    ... class Tiny:
    ...     rho: float = 0.1
    >>> to_dict(Tiny())
    {'rho': 0.1}
    """
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[Config], data: dict[str, Any]) -> Config:
    """Build a configuration from `to_dict`'s output; unknown keys are refused by name.

    A missing key takes its default: what was written before a field existed keeps its meaning, since a new field's
    default is the old behaviour.

    Args:
        cls: the frozen dataclass to build; every field has a default.
        data: what `to_dict` returned, possibly after a trip through JSON (lists become tuples).
    Raises:
        ValueError: a key is unknown.
    """
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - fields)
    if unknown:
        raise ValueError(
            f"{cls.__name__}: expected some of the keys {sorted(fields)}, got unknown {unknown}; the configuration was "
            f"written by another version of the code: run it again"
        )
    hints = _hints(cls)  # type: ignore[arg-type]
    return cls(**{name: _typed(hints[name], value) for name, value in data.items()})


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Read the fields' types once: they stand in the source as text, which takes longer to read than all else here."""
    return typing.get_type_hints(cls)


def differences(config: Any) -> dict[str, Any]:
    """Return the fields whose value is not the default, nested ones as dictionaries: what identifies a run.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Tiny:
    ...     rho: float = 0.1
    ...     seed: int = 0
    >>> differences(Tiny(seed=1))
    {'seed': 1}
    """
    default = type(config)()
    found = {}
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        if value != usual:
            found[field.name] = differences(value) if dataclasses.is_dataclass(value) else _plain(value)
    return found


def all_but(config: Any, *names: str) -> tuple[Any, ...]:
    """Return the values of a configuration's fields except the named ones: what a group of configurations shares.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Tiny:
    ...     rho: float = 0.1
    ...     seed: int = 0
    >>> all_but(Tiny(), "seed")
    (0.1,)
    """
    return tuple(getattr(config, field.name) for field in dataclasses.fields(config) if field.name not in names)


def _plain(value: Any) -> Any:
    """Turn nested dataclasses and tuples into dictionaries and lists."""
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    """Undo `_plain` for one field of the given type."""
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value)  # type: ignore[arg-type]
    if isinstance(value, list):
        return tuple(value)
    return float(value) if hint is float and isinstance(value, int) else value
