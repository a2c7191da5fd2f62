"""Treatment: dated doses, as the tissue and the cells feel them.

A treatment file is TOML: ``kind`` names the module of ``sim/treatments`` that understands the rest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from ..agents.colony import DrugWindow, Irradiation
from ..core import registry
from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from ..imaging.study import LabelImage
from .exposure import Drug

TREATMENTS = "oncoscale.sim.treatments"


File = TypeVar("File", bound=BaseModel)


@dataclass(frozen=True)
class Fraction:
    """One fraction of radiation: hour on the absolute clock, dose in Gy, alpha 1/Gy and beta 1/Gy² of the cells, and
    whether the treatment states these two or leaves them to the disease.
    """

    hour: float
    gray: float
    alpha: float
    beta: float
    stated: bool = True

    def felt(self, share: float) -> Irradiation:
        """The fraction where this share of its dose arrives."""
        gray = share * self.gray
        return Irradiation(self.hour, self.alpha * gray, self.beta * gray**2)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation: tissue is taken out at once.

    day       days after the images of time 0, whole hours
    region    what is taken out where the tissue then lies (its value 1); None: the tumour itself
    margin    mm of host tissue around the tumour that are taken with it
    residual  share of the tumour's volume that is left, as its outermost rim
    stated    as the treatment file says it, for the record
    """

    day: float
    region: LabelImage | None = None
    margin: float = 0.0
    residual: float = 0.0
    stated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Treatment:
    """What is given, and when, on the absolute clock of the forecast.

    kind        the module of sim/treatments that made it
    name        in words
    windows     hours and effects at nominal delivery (at the tumour's median element)
    source      where the schedule and the effects come from
    fractions   of radiation
    planned     whether their dose is that of the study's plan rather than uniform
    operations  of surgery, by day
    drugs       that are carried through the tissue; none: every window acts as it says, where it is delivered
    local       (windows, elements, 6) effects of the windows once their drugs were carried (``exposure``)
    """

    kind: str
    name: str
    windows: tuple[DrugWindow, ...]
    source: str = ""
    fractions: tuple[Fraction, ...] = ()
    planned: bool = False
    operations: tuple[Operation, ...] = ()
    drugs: tuple[Drug, ...] = ()
    local: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What the treatment's effects rest on."""
        carried = registry.load(TREATMENTS, "chemotherapy").TRANSPORT if self.drugs else ()
        return (*registry.load(TREATMENTS, self.kind).PARAMETERS, *carried)

    @property
    def gray(self) -> float:
        """Gy of all fractions."""
        return sum(one.gray for one in self.fractions)

    def fractions_at(self, share: float) -> tuple[Irradiation, ...]:
        """The fractions of an element that receives this share of the dose."""
        return tuple(one.felt(share) for one in self.fractions)

    def of_cells(self, alpha: float, alpha_beta: float) -> Treatment:
        """The same for cells of this sensitivity (1/Gy, Gy), where the treatment does not state its own."""
        suited = [one if one.stated else replace(one, alpha=alpha, beta=alpha / alpha_beta) for one in self.fractions]
        return replace(self, fractions=tuple(suited))

    def windows_at(self, delivery: float) -> tuple[DrugWindow, ...]:
        """The windows of an element whose delivery, relative to the tumour's median, is ``delivery``."""
        if not self.windows:
            return ()
        effect = registry.load(TREATMENTS, self.kind).effect_at
        return tuple(
            DrugWindow(
                window.start,
                window.end,
                tuple(effect(nominal, delivery) for nominal in window.effects),
            )
            for window in self.windows
        )

    def windows_of(self, element: int, delivery: float) -> tuple[DrugWindow, ...]:
        """The windows as the cells of an element feel them: by its own drug if carried, else by delivery."""
        if self.local is None:
            return self.windows_at(delivery)
        return tuple(
            replace(window, effects=tuple(float(effect) for effect in effects))  # type: ignore[arg-type]
            for window, effects in zip(self.windows, self.local[:, element], strict=True)
        )

    def after(self, days: float) -> str:
        """What of it is due after so many days, in words; empty: nothing."""
        end = 24.0 * days
        late = [one.gray for one in self.fractions if one.hour >= end]
        counts = (
            (len(late), len(self.fractions), f"fractions ({sum(late):.3g} of {self.gray:.3g} Gy)"),
            (sum(one.end > end for one in self.windows), len(self.windows), "windows of drugs, in part or wholly"),
            (sum(one.day >= days for one in self.operations), len(self.operations), "operations"),
        )
        return ", ".join(f"{count} of {every} {what}" for count, every, what in counts if count)

    def as_table(self) -> dict[str, Any]:
        """The treatment as plain values, for the record."""
        return {
            "kind": self.kind,
            "name": self.name,
            "source": self.source,
            "windows": [{"start_h": w.start, "end_h": w.end, "effects": list(w.effects)} for w in self.windows],
            "fractions": [{"hour": f.hour, "gray": f.gray, "alpha": f.alpha, "beta": f.beta} for f in self.fractions],
            "dose": "planned" if self.planned else "uniform",
            **({"drugs": [_drug(one) for one in self.drugs]} if self.drugs else {}),
            "operations": [{"day": operation.day, **operation.stated} for operation in self.operations],
        }


def _drug(one: Drug) -> dict[str, Any]:
    return {
        "name": one.name,
        "doses": [{"day": d.day, "mg_m2": d.amount, "hours": 24.0 * d.days} for d in one.plasma.doses],
        "disposition": asdict(one.plasma.disposition),
        "loss_per_day": one.loss,
        "binding_mg_per_l_day": one.binding,
        "half_binding_mg_per_l": one.half,
        "diffusivity_mm2_per_day": one.diffusivity,
        "responses": {target: asdict(response) for target, response in one.responses.items()},
    }


def read_treatment(path: Path | str) -> Treatment:
    """The treatment of a TOML file. Raises ConfigurationRejected for anything that is not understood."""
    path = Path(path)
    try:
        table: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationRejected(
            f"treatment file {path.name!r} does not exist",
            "a TOML file",
            "give the path of a treatment file (see `oncoscale schema treatment`)",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationRejected(
            f"treatment file {path.name!r} is not TOML: {error}", "valid TOML", "mend the line that is named"
        ) from error
    return treatment_of(table, f"treatment file {path.name!r}")


def treatment_of(table: Mapping[str, Any], what: str = "treatment") -> Treatment:
    """The treatment that a table describes. Raises ConfigurationRejected for anything that is not understood."""
    kind = table.get("kind")
    if not isinstance(kind, str):
        raise ConfigurationRejected(
            f"{what} has no 'kind'", "kind = one of " + ", ".join(registry.names(TREATMENTS)), "add the kind"
        )
    treatment: Treatment = registry.load(TREATMENTS, kind).parse(table)
    return treatment


def understood(model: type[File], table: Mapping[str, Any], expected: str) -> File:
    """The table as a model; all its errors at once in one ConfigurationRejected."""
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigurationRejected(f"treatment: {faults}", expected, "see `oncoscale schema treatment`") from error
