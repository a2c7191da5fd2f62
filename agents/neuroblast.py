"""The state of neuroblasts and Schwann cells.

Both share one record; fields that Schwann cells do not use stay at their start values.
"""

from __future__ import annotations

import numpy as np

from .cell import BODY, State, Variable, flags
from .colony import TARGETS

NEUROBLAST, SCHWANN = 0, 1
"""Values of ``kind``."""

ACTIVITIES = (
    "MYCN_fn", "MAPK_RAS_fn", "p53_fn", "p73_fn", "HIF_fn", "CHK1_fn", "p21_fn", "p27_fn", "CDC25C_fn", "CDS1_fn",
    "ID2_fn", "IAP2_fn", "BNIP3_fn", "JAB1_fn", "Bcl2_fn", "BAK_fn", "CAS_fn", "VEGF_fn",
)  # fmt: skip
"""Probability that a gene's product is active when its regulators ask for it; constant in a cell's life."""

BY_PARAMETER = ("MYCN_fn", "MAPK_RAS_fn", "p53_fn", "p73_fn", "HIF_fn")
"""Activities that follow from parameters, genotype or a draw; all others are 1 in every cell, which single precision
holds exactly.
"""

SPECIES = (
    "MYCN", "MAPK_RAS", "JAB1", "CHK1", "ID2", "IAP2", "HIF", "BNIP3", "VEGF", "p53", "p73", "p21", "p27", "Bcl2",
    "BAK", "CAS", "CDS1", "CDC25C",
)  # fmt: skip
"""Gene products that are on or off, decided anew every hour."""

MUTATIONS = ("MYCN_amp", "TERT_rarngm", "ATRX_inact", "ALT", "ALK")

STATE = State(
    (
        *BODY,
        Variable("degdiff", np.float64, "1", "degree of differentiation"),
        *(
            Variable(name, np.float64 if name in BY_PARAMETER else np.float32, "1", f"activity of {name[:-3]}", 1.0)
            for name in ACTIVITIES
        ),
        Variable("telo_count", np.int16, "1", "telomere units, 0 to 60"),
        Variable("apop_signal", np.int16, "1", "apoptotic signals gathered"),
        Variable("necro_signal", np.int16, "1", "necrotic signals gathered"),
        Variable("necro_critical", np.int16, "1", "necrotic signals that kill this cell"),
        Variable("ALK", np.int8, "1", "0 wild type, 1 amplified or activated, 2 other RAS mutation"),
        Variable("ATP", np.bool_, "1", "whether energy suffices", 1),
        Variable("nutrient", np.bool_, "1", "whether nutrients suffice", 1),
        *flags(
            hypoxia="whether oxygen is short",
            drugged="whether a drug reaches this Schwann cell this hour",
            DNA_damage="damaged DNA",
            DNA_unreplicated="unreplicated DNA",
            telo="telomerase active (MYCN or TERT)",
            MYCN_amp="MYCN amplified",
            TERT_rarngm="TERT rearranged",
            ATRX_inact="ATRX inactivated",
            ALT="alternative lengthening of telomeres",
            **{name: f"{name} on" for name in SPECIES},
        ),
    )
)

HOUR = np.dtype(
    [(f"drug_on_{target}", np.float64) for target in TARGETS]
    + [(name, np.float64) for name in ("drug_mean", "schwann_share", "neuroblast_share")]
    + [(name, np.float64) for name in ("dose_linear", "dose_quadratic")],
    align=True,
)
"""What a colony's cells share in one hour: probability that a drug switches each target off (0 without drug), their
mean, the shares of living Schwann cells and neuroblasts among the colony's living cells, and the radiation of the hour
(sums of alpha d and beta d² over its fractions)."""
