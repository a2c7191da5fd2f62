"""How fast glioma cells turn over, and how late the doomed die: published numbers, and the fates that follow from them.

Few cells of a glioma cycle at a time, fast; most newborn cells are lost, and the tumour grows slowly. A newborn cell
dies, falls quiescent or goes on cycling, in that order of numbers; a quiescent cell wakes after weeks or months. Cells
that neither wake nor divide are not lost: in gliomas apoptosis goes with proliferation [Nakajima et al. 1998, doi
10.1007/s007010050148, rats: apoptotic against labelling index r = 0.97], so that loss is laid on the newborn.

In steady growth at ``net`` an hour, with D divisions an hour and the cycle as ``stages`` steps of chance ``advance``,

    cells that begin a cycle    B = 2 (1 - lost - rest) D + wake Q
    those that end it           D = B L,         L = (advance / (advance + e^net - 1))^stages
    cycling                     net P = B - D,   P / (P + Q) = growth fraction
    quiescent                   (net + wake) Q = 2 rest D

of which two unknowns remain, ``lost`` and ``rest``.
"""

from __future__ import annotations

import math

from ..core.quantity import Parameter

SWANSON = "Swanson et al. 2000, doi 10.1046/j.1365-2184.2000.00177.x: 0.012 a day in high-grade glioma of adults"
HOSHINO = "Hoshino and Wilson 1979, Cancer 44:956-962, malignant gliomas of adults (abstract read)"

NET_GROWTH = Parameter(0.012, "1/day", "net growth where nobody crowds", SWANSON, (0.004, 0.05))
CYCLE = Parameter(
    75.6, "hour", "time of a cell cycle", f"{HOSHINO}: 75.6 with a standard deviation of 45.7", (30.0, 121.0)
)
GROWTH_FRACTION = Parameter(
    0.31, "1", "share of the cells that cycle", f"{HOSHINO}: 0.31, 0.14 to 0.44; Ki-67 of 5 to 40 % in midline gliomas "
    "with H3 K27M (Li et al. 2019, Zhonghua Bing Li Xue Za Zhi 48:192-198, abstract read)", (0.05, 0.44),
)  # fmt: skip
REST = Parameter(
    56.0, "day", "time for which a cell is quiescent, on average", "ASSUMED: geometric mean of 3 weeks and 5 months, "
    "for which labelled cells were found in malignant gliomas (Hoshino 1984, J Neurosurg 61:895-900, abstract read)",
    (21.0, 150.0), assumed=True,
)  # fmt: skip
ATTEMPTS = Parameter(
    2.0, "1", "divisions that a doomed cell tries on average: the last kills", "ASSUMED: the middle of 1 to 3. "
    "HeLa and L cells divide once or more before they die of radiation (Dewey, How cells die after irradiation, doi "
    "10.3109/9781420020502-22; pedigrees over up to seven generations: Hurwitz and Tolmach 1969, Biophys J 9:607-633); "
    "after up to 8 Gy all cells of several lines divided at least once (Biophys J 1968, 8:1475-1486, doi "
    "10.1016/s0006-3495(68)86567-1); stem-like cells of gliomas die later than four days after 5 to 10 Gy, in mitotic "
    "catastrophe (Firat et al. 2011, doi 10.1186/1748-717X-6-71); abstracts read", (1.0, 3.0), assumed=True,
)  # fmt: skip
STAGES = 24
"""Steps of the cycle: its length scatters by a fifth."""

PARAMETERS = (NET_GROWTH, CYCLE, GROWTH_FRACTION, REST, ATTEMPTS)

ADVANCE = STAGES / CYCLE.value
"""1/hour, chance of a step of the cycle."""

WAKE = 1.0 / (24.0 * REST.value)
"""1/hour, chance of a quiescent cell to wake."""


def fates_at_birth(growth_fraction: float, net: float, advance: float, wake: float) -> tuple[float, float]:
    """Shares of newborn cells that are lost and that fall quiescent; net, advance and wake in 1/hour, net > 0.

    >>> lost, rest = fates_at_birth(0.31, 0.012 / 24, 24 / 75.6, 1 / (24 * 56))
    >>> round(lost, 3), round(rest, 3)
    (0.438, 0.107)
    """
    through = (advance / (advance + math.expm1(net))) ** STAGES
    cycling = (1.0 / through - 1.0) / net
    quiescent = cycling * (1.0 - growth_fraction) / growth_fraction
    rest = 0.5 * (net + wake) * quiescent
    go_on = 0.5 * (1.0 / through - wake * quiescent)
    return 1.0 - rest - go_on, rest


LOST, RESTING = fates_at_birth(GROWTH_FRACTION.value, NET_GROWTH.value / 24.0, ADVANCE, WAKE)
"""Of the newborn, with the published numbers."""
