"""What must be read with a forecast of certain kinds: every element simulated, fluid in the tissue, drugs carried,
treatment that the horizon cuts off.
"""

from __future__ import annotations

from .forecast import Forecast
from .state import TissueState
from .treatment import Treatment


def whole_statements(made: Forecast) -> tuple[str, ...]:
    """What must be read with a claim that every element was simulated: how few of its cells were."""
    words = [sampling.words() for sampling in made.sampling[:1] if sampling.is_whole]
    if words and len(made.volumes) == 1:
        words.append("With every element and one seed the interval holds neither extrapolation nor chance.")
    return tuple(words)


def fluid_statements(start: TissueState, wet: bool) -> tuple[str, ...]:
    """What must be read with a pressure of interstitial fluid."""
    if start.fluid is None:
        return ()
    words = ("The change of that pressure since the images loads the tissue (poroelastic, Biot's alpha 1).",)
    return (
        "The pressure of interstitial fluid rests on values published for other tumours (Baxter and Jain 1989), not on "
        "these images; the rim over which it falls is thinner than an element.",
        *(words if wet else ()),
    )


def drug_statements(treatment: Treatment | None) -> tuple[str, ...]:
    """What must be read with drugs that are carried through the tissue."""
    if treatment is None or not treatment.drugs:
        return ()
    names = ", ".join(one.name for one in treatment.drugs)
    return (
        f"Carried through the tissue from plasma curves of their doses: {names} (vessels, diffusion, flow, loss and "
        "binding). The effect of a window is that of the tumour's median exposure unless a drug states its own "
        "half-maximal concentration: how much drug the cells of this tumour need is not known.",
    )


def late_statements(treatment: Treatment | None, days: float) -> tuple[str, ...]:
    """What of a treatment the horizon cuts off."""
    late = treatment.after(days) if treatment else ""
    return (f"Due after day {days:g} and not in this forecast: {late}.",) if late else ()
