"""What was typed, as what is meant: pairs, times, settings. Everything that is wrong is said at once."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected

if TYPE_CHECKING:
    from ..imaging.quantify import QuantifySettings
    from ..imaging.systematic import Widths
    from ..sim.settings import ForecastSettings
    from .option_groups import Contrast, Enhancement, Fit, Simulated


def unit_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """``["ktrans=1/min"]`` as ``{"ktrans": "1/min"}``."""
    return {name.lower(): unit for name, unit in (_pair(pair, "--unit", "ktrans=1/min") for pair in pairs)}


def label_pairs(pairs: Sequence[str], option: str = "--label", least: int = 1) -> dict[int, str]:
    """``["1=tumour"]`` as ``{1: "tumour"}``."""
    names = {}
    for pair in pairs:
        value, name = _pair(pair, option, "1=tumour")
        if not value.isdigit() or int(value) < least:
            raise ConfigurationRejected(
                f"{option} {pair}: {value!r} is no value of a region",
                f"a whole number from {least}",
                f"write {option} 1=tumour",
            )
        names[int(value)] = name
    return names


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    left, sign, right = text.partition("=")
    if not sign or not left.strip() or not right.strip():
        raise ConfigurationRejected(
            f"{option} {text}", "two things with = between them", f"write for example {option} {example}"
        )
    return left.strip(), right.strip()


def named_values(pairs: Sequence[str]) -> dict[str, str]:
    """``["form=neuroblastoma"]`` as ``{"form": "neuroblastoma"}``."""
    return dict(_pair(pair, "--with", "form=neuroblastoma") for pair in pairs)


def yes_or_no(option: str, value: str | None) -> bool | None:
    """Yes or no as typed; None where nothing was."""
    if value is None:
        return None
    one_of(option, value, ("yes", "no"))
    return value == "yes"


def one_of(option: str, value: str, known: Sequence[str]) -> None:
    """Raises ConfigurationRejected where ``value`` is none of the ``known`` ones."""
    if value not in known:
        raise ConfigurationRejected(f"{option} {value}", "one of " + ", ".join(known), "choose one of them")


def frame_times(text: str | None) -> tuple[float, ...] | None:
    """``"0,407,761"`` as seconds."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        raise ConfigurationRejected(
            f"--times {text}", "seconds with commas between them", "write for example --times 0,407,761"
        ) from None


NAMES_OF_SETTINGS = {"vfa_tr": "vfa_tr_s", "delay": "delay_s"}
"""Settings of the quantification that carry their unit in their name, by the option that states them."""


def quantify_settings(contrast: Contrast, enhancement: Enhancement, fit: Fit, *, seed: int) -> QuantifySettings:
    """The settings of the quantification; what was not typed (None) keeps its default.

    Every command that makes maps takes all of these, so that none can do what another cannot.
    """
    from ..imaging.quantify import QuantifySettings

    typed: dict[str, Any] = {**asdict(contrast), **asdict(enhancement), **asdict(fit), "seed": seed}
    stated = {NAMES_OF_SETTINGS.get(name, name): value for name, value in typed.items() if value is not None}
    read: dict[str, Callable[[Any], Any]] = {"aif_mask": str, "t1": _seconds_or_name, "widths": read_widths}
    return QuantifySettings(**{name: read[name](value) if name in read else value for name, value in stated.items()})


def read_widths(path: Path) -> Widths:
    """How well the shared quantities are known, from a TOML file. Raises ConfigurationRejected."""
    from ..imaging.systematic import SOURCES, Widths

    values = read_toml(path)
    wrong = [key for key, value in values.items() if key not in SOURCES or not _is_number(value)]
    if wrong:
        near = [get_close_matches(key, SOURCES, 1) for key in wrong]
        hints = ", ".join(key + (f" (did you mean {one[0]}?)" if one else "") for key, one in zip(wrong, near))
        raise ConfigurationRejected(
            f"widths in {path.name!r}: {hints}",
            "numbers for some of " + ", ".join(SOURCES),
            "see `oncoscale schema widths`",
        )
    return Widths(**{key: float(value) for key, value in values.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds_or_name(text: str) -> str | float:
    """A number of seconds as a number; ``vfa`` or a path as it stands."""
    try:
        return float(text)
    except ValueError:
        return text


def forecast_settings(config: Path | None, simulated: Simulated, **stated: Any) -> ForecastSettings:
    """Settings from a file, overruled by what was typed; ``stated`` values of None were not typed."""
    from pydantic import ValidationError

    from ..sim.settings import ForecastSettings

    typed = {**asdict(simulated), **stated}
    typed |= {"elements": _all_or_number(simulated.elements), "effects": False if typed.pop("no_effects") else None}
    values = dict(read_toml(config)) if config else {}
    values |= {name: value for name, value in typed.items() if value is not None}
    try:
        return ForecastSettings(**values)
    except ValidationError as error:
        where = "the settings of the forecast"
        raise refused(where, error, ForecastSettings.model_fields, "see `oncoscale schema forecast`") from error


def _all_or_number(elements: str | None) -> str | int | None:
    return elements if elements in (None, "all") else _count(elements)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConfigurationRejected(
            f"--elements {text}", "a whole number from 1, or all", "write for example --elements 20"
        )
    return int(text)


def read_toml(path: Path) -> Mapping[str, Any]:
    """A configuration file. Raises ConfigurationRejected if it cannot be read as TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationRejected(
            f"configuration file {path.name!r} cannot be read: {error.strerror}", "a TOML file", "check its path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationRejected(
            f"configuration file {path.name!r} is not TOML: {error}", "valid TOML", "mend the line that is named"
        ) from error


def refused(what: str, error: Any, known: Mapping[str, Any], remedy: str) -> ConfigurationRejected:
    """All faults of a pydantic model in one message, with the nearest known key for an unknown one."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        words = f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
        near = get_close_matches(key, known, 1) if fault["type"] == "extra_forbidden" else []
        faults.append(words + (f" (did you mean {near[0]!r}?)" if near else ""))
    return ConfigurationRejected(f"{what}: {'; '.join(faults)}", "known keys with values in their ranges", remedy)
