"""Forced luck: draws by name, for the interpreted rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from oncoscale.agents import rule
from oncoscale.agents.behaviours import division
from oncoscale.agents.colony import TARGETS
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import HOUR, STATE
from oncoscale.agents.neuroblastoma import each_hour
from oncoscale.agents.parameters import numbers_of, parameter_set
from oncoscale.agents.voxels import Near

Live = Callable[..., None]


class Bench:
    """One cell on the bench: its state, its surroundings, and draws that are set by name."""

    def __init__(self, kind: int, **state: float) -> None:
        self.cell = STATE.new(1, 1, kind).view(np.recarray)[0]
        for name, value in state.items():
            setattr(self.cell, name, value)
        self.parameters: dict[str, float] = {}
        self.forced: dict[str, float] = {}

    def uniform(self, luck: Any, name: Any, index: Any) -> float:
        """The forced number of a named draw, 0.5 where none is forced."""
        del luck, index
        return self.forced.get(rule.DRAWS[int(name)], 0.5)

    def live(
        self,
        *,
        near: tuple[float, int, int, int],
        shares: tuple[float, float] = (0.0, 1.0),
        effects: tuple[float, ...] = (0.0,) * 6,
        draws: Mapping[str, float] | None = None,
        only: Any = None,
        mode: Any = "parity",
    ) -> None:
        """One hour (or one behaviour): oxygen, neuroblasts, Schwann and necrotic cells near; Schwann and neuroblast
        shares of the colony; effects of the drug; forced draws.
        """
        self.forced = dict(draws or {})
        hour = np.zeros(1, HOUR)
        for target, effect in zip(TARGETS, effects, strict=True):
            hour[f"drug_on_{target}"] = effect
        hour["drug_mean"] = sum(effects) / 6
        hour["schwann_share"], hour["neuroblast_share"] = shares
        p = numbers_of(parameter_set(values=self.parameters), switches(mode)).view(np.recarray)[0]
        luck = (np.uint64(0),) * 4
        for behaviour in [only] if only else each_hour[self.cell.kind]:
            behaviour(self.cell, luck, Near(*near), hour.view(np.recarray)[0], p)

    def shows(self, **expected: float) -> None:
        """Assert these values of the cell."""
        found = {name: float(getattr(self.cell, name)) for name in expected}
        assert found == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-12)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Put a cell on the bench: ``bench(NEUROBLAST, cycle=20, …)``."""

    def put(kind: int, **state: float) -> Bench:
        placed = Bench(kind, **state)
        monkeypatch.setattr(rule, "uniform", placed.uniform)
        monkeypatch.setattr(division, "uniform", placed.uniform)
        return placed

    return put
