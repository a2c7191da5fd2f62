"""Cases: what no model here can follow is told at once."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, ModelRefused, OncoscaleError
from oncoscale.imaging.diffusion_tensor import TensorImage
from oncoscale.imaging.quantify import Quantified
from oncoscale.imaging.study import Grid
from oncoscale.sim.case import Case
from oncoscale.sim.preparing import prepare
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.treatment import Operation, Treatment
from oncoscale.sim.tumour_type import tumour_type

GLIOMA, NEUROBLASTOMA = tumour_type("dipg"), tumour_type("neuroblastoma")
TENSORS = TensorImage(Grid((1, 1, 1), np.eye(4)), np.eye(3)[None, None, None])
OPERATED = Treatment("surgery", "resection", (), operations=(Operation(10.0),))
WET = ForecastSettings(poroelastic=True)


@pytest.mark.parametrize(
    ("case", "refusal", "found"),
    [
        (Case(Quantified({}), GLIOMA, 28.0, OPERATED), ModelRefused, "an operation on a tumour without a border"),
        (Case(Quantified({}), GLIOMA, 28.0, settings=WET), ConfigurationRejected, "poroelastic for a tumour without"),
        (
            Case(Quantified({}, tensor=TENSORS), NEUROBLASTOMA, 28.0),
            ConfigurationRejected,
            "tensors for a tumour with",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_before_anything_is_meshed(
    case: Case, refusal: type[OncoscaleError], found: str
) -> None:
    """What images show of an infiltrating tumour is not all of it; cells of one with a border do not wander."""
    begun: list[str] = []
    with pytest.raises(refusal, match=found):
        prepare(case, threads=1, tell=lambda what, done: begun.append(what))
    assert begun == []
