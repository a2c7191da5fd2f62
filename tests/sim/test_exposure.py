"""From doses to the effects that cells feel."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from oncoscale.agents.colony import TARGETS, DrugWindow
from oncoscale.core.errors import ConfigurationRejected, ModelRefused
from oncoscale.sim.exposure import Drug, Response, emax, expose, local_effects
from oncoscale.sim.pharmacokinetics import DISPOSITIONS, Disposition, Dose, Plasma
from oncoscale.sim.sensitivity import changes, constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, simulate
from oncoscale.sim.tissue import Springs
from oncoscale.sim.treatment import treatment_of
from oncoscale.sim.treatments.chemotherapy import LOSS, RAPID_COJEC, RAPID_COJEC_CARRIED, RAPID_COJEC_EFFECT, effect_at
from oncoscale.sim.tumour_type import tumour_type

NOMINAL = RAPID_COJEC_EFFECT.value


def parsed(text: str):
    """The treatment of a TOML text."""
    return treatment_of(tomllib.loads(text))


@pytest.mark.parametrize("name", sorted(DISPOSITIONS))
def test_the_body_keeps_its_clearance_and_its_residence(name):
    """Area under the curve is unbound dose/clearance; its mean time, with two half-lives, is volume/clearance."""
    body = DISPOSITIONS[name]
    area = sum(amplitude / rate for amplitude, rate in body.terms)
    assert area * 1440.0 * body.clearance == pytest.approx(body.unbound, rel=1e-12)
    if body.volume:
        residence = sum(amplitude / rate**2 for amplitude, rate in body.terms) / area
        assert residence * 1440.0 == pytest.approx(body.volume / body.clearance, rel=1e-12)
    assert all(amplitude > 0.0 for amplitude, _ in body.terms)


def test_infusions_are_boluses_drawn_out():
    """The integral of the curve is its area, an infusion ends in the area of a bolus, a short one in its curve."""
    body = DISPOSITIONS["etoposide"]
    slow, fast = Plasma(body, [Dose(1.0, 100.0, 0.5)]), Plasma(body, [Dose(1.0, 100.0)])
    when = np.linspace(0.0, 4.0, 200_001)
    assert np.trapezoid(slow.at(when), when) == pytest.approx(float(slow.integral(4.0)), rel=1e-6)
    assert float(slow.integral(40.0)) == pytest.approx(float(fast.integral(40.0)), rel=1e-12)
    assert Plasma(body, [Dose(1.0, 100.0, 1e-7)]).at([1.2, 3.0]) == pytest.approx(fast.at([1.2, 3.0]), rel=1e-4)
    assert fast.at(0.999) == 0.0
    assert slow.edges == (1.0, 1.5)


def test_bodies_that_cannot_be_are_refused():
    """A residence time outside those of both half-lives, and numbers of no body."""
    with pytest.raises(ConfigurationRejected, match="residence"):
        Disposition(1.0, (10.0, 20.0), volume=100.0)
    with pytest.raises(ConfigurationRejected, match="clearance"):
        Disposition(0.0, (10.0,))


def test_one_drug_without_a_half_is_the_nominal_effect_around_the_median():
    """At the median the window's own effect, elsewhere that of ``effect_at`` in the relative concentration."""
    mean = np.array([[[0.0, 0.5, 1.0, 2.0, 7.0]]])
    drug = Drug("any", Plasma(Disposition(1.0, (1.0,)), ()), 1.0)
    window = DrugWindow(0.0, 96.0, (NOMINAL, 0.0, 0.0, 1.0, 0.0, 0.0))
    effects = local_effects([window], [drug], mean, np.arange(5))[0]
    assert effects[:, 0] == pytest.approx([effect_at(NOMINAL, one) for one in mean[0, 0]], abs=1e-12)
    assert effects[:, 3] == pytest.approx([0.0, 1.0, 1.0, 1.0, 1.0])
    assert not effects[:, 1].any()


def test_drugs_act_independently():
    """Two drugs at their medians make the window's effect together; one that states its half acts beside it."""
    body = Plasma(Disposition(1.0, (1.0,)), ())
    window = DrugWindow(0.0, 96.0, (NOMINAL, 0.0, 0.0, 0.0, 0.0, 0.0))
    mean = np.array([[[1.0, 1.0, 2.0]], [[3.0, 3.0, 0.0]]])
    pair = [Drug("a", body, 1.0), Drug("b", body, 1.0)]
    assert local_effects([window], pair, mean, np.arange(3))[0, :2, 0] == pytest.approx(NOMINAL)
    stated = Drug("b", body, 1.0, responses={"HIF": Response(0.8, 3.0, 2.0)})
    effects = local_effects([window], [pair[0], stated], mean, np.arange(3))[0]
    assert effects[:, TARGETS.index("HIF")] == pytest.approx([0.4, 0.4, 0.0])


def test_an_effect_beyond_the_largest_is_refused():
    """No concentration reaches more than the largest effect."""
    assert float(emax(np.array(1e9), 0.3, Response(0.5))) == pytest.approx(0.5, rel=1e-6)
    with pytest.raises(ModelRefused, match="largest"):
        emax(np.array(1.0), 0.6, Response(0.5))


@pytest.fixture(scope="module")
def leaky(small_state):
    """The small tumour with Ktrans that varies."""
    varied = np.full(len(small_state.stretch), 0.05)
    varied[small_state.tumour] = 0.02 + 0.2 * np.abs(np.sin(np.arange(len(small_state.tumour))))
    return replace(small_state, ktrans=varied, ve=np.full(len(varied), 0.3))


def test_elements_of_a_coarse_mesh_are_what_their_vessels_make_of_them(leaky):
    """Exposure is that of plasma times kep/(kep + loss) but for what diffuses; the median element feels the window."""
    treatment = parsed(RAPID_COJEC_CARRIED)
    held, felt = expose(leaky, treatment, 14.0)
    kep = (leaky.ktrans / leaky.ve)[leaky.tumour]
    for drug, exposure in zip(treatment.drugs, held.exposure, strict=True):
        alone = float(drug.plasma.integral(14.0)) * kep / (kep + LOSS.value)
        assert np.median(exposure[leaky.tumour] / alone) == pytest.approx(1.0, abs=0.02)
    effects = felt.local[:, leaky.tumour, 0]
    assert np.median(effects, axis=1) == pytest.approx(NOMINAL, abs=0.01)
    assert (np.ptp(effects, axis=1) > 0.2).all()
    assert felt.windows_of(int(leaky.tumour[0]), 1.0)[0].effects[0] == effects[0, 0]


def test_two_steps_are_one(leaky):
    """Drug is handed on between macro steps: exposures of two steps add up to those of one."""
    treatment = replace(parsed(RAPID_COJEC_CARRIED), drugs=parsed(RAPID_COJEC_CARRIED).drugs[:1])
    whole, _ = expose(leaky, treatment, 3.0)
    half, _ = expose(leaky, treatment, 1.0)
    both, _ = expose(replace(half, day=1.0), treatment, 3.0)
    assert both.exposure == pytest.approx(whole.exposure, rel=5e-3)
    assert half.drug.max() > 0.0


def test_vessels_that_died_bring_nothing(leaky):
    """Elements without supply of blood are reached by diffusion alone."""
    dead = leaky.tumour[: len(leaky.tumour) // 2]
    supply = leaky.supply.copy()
    supply[dead] = 0.0
    treatment = replace(parsed(RAPID_COJEC_CARRIED), drugs=parsed(RAPID_COJEC_CARRIED).drugs[1:2])
    held, _ = expose(replace(leaky, supply=supply), treatment, 4.0)
    alive, _ = expose(leaky, treatment, 4.0)
    assert np.median(held.exposure[0, dead] / alive.exposure[0, dead]) < 0.2


def test_files_say_what_is_carried():
    """Plain windows carry nothing; what is half said, unknown or too late is refused; a course keeps its drugs."""
    assert parsed(RAPID_COJEC).drugs == ()
    assert "drugs" not in parsed(RAPID_COJEC).as_table()
    carried = parsed(RAPID_COJEC_CARRIED)
    assert [one["name"] for one in carried.as_table()["drugs"]] == [
        "vincristine",
        "carboplatin",
        "etoposide",
        "cisplatin",
    ]
    assert len(carried.parameters) > len(parsed(RAPID_COJEC).parameters)
    for text, found in (
        (RAPID_COJEC + "\ntransport = true", "transport"),
        (RAPID_COJEC_CARRIED.replace('"cisplatin"', '"ptx"'), "ptx"),
        (
            RAPID_COJEC_CARRIED.replace("day = 0, mg", "day = 5, mg").replace("day = 1, mg", "day = 5, mg"),
            "before any drug",
        ),
    ):
        with pytest.raises(ConfigurationRejected, match=found):
            parsed(text)
    course = treatment_of({"kind": "course", "part": [tomllib.loads(RAPID_COJEC_CARRIED)]})
    assert course.drugs == carried.drugs
    later = tomllib.loads(RAPID_COJEC)
    later["window"] = [{**window, "start_day": 30 + k, "end_day": 31 + k} for k, window in enumerate(later["window"])]
    with pytest.raises(ConfigurationRejected, match="carries"):
        treatment_of({"kind": "course", "part": [tomllib.loads(RAPID_COJEC_CARRIED), later]})


def test_colonies_feel_their_own_drug(leaky):
    """In a macro step each chosen element's cells are handed the effects of the drug that came to it."""
    tumour, felt = tumour_type("neuroblastoma"), []

    def advance(colonies, hours, seed, **more):
        felt.extend(colonies)
        return constant_rate(colonies, hours, seed)

    treatment = replace(parsed(RAPID_COJEC_CARRIED), drugs=parsed(RAPID_COJEC_CARRIED).drugs[1:2])
    plan = Plan(tumour, ForecastSettings(elements=6), treatment, tumour.materials, Springs(0.1), (4.0,), 1, advance)
    (_, end), _ = simulate(leaky, plan)
    assert end.exposure.shape == (1, len(leaky.stretch))
    effects = np.array([colony.surroundings.drugs[0].effects[0] for colony in felt])
    exposures = end.exposure[0, [int(colony.name.removeprefix("element-")) for colony in felt]]
    assert np.ptp(effects) > 0.01
    assert (np.diff(effects[np.argsort(exposures)]) > -1e-9).all()


def test_what_is_asked_of_delivery_is_asked_of_ktrans(small_fields, leaky):
    """Where drugs are carried, the change of delivery that a forecast is repeated with is one of Ktrans."""
    tumour = tumour_type("neuroblastoma")
    plan = Plan(
        tumour,
        ForecastSettings(),
        parsed(RAPID_COJEC_CARRIED),
        tumour.materials,
        Springs(0.1),
        (14.0,),
        1,
        constant_rate,
    )
    asked = {one.what: one for one in changes(replace(small_fields, ktrans=leaky.ktrans), plan)}
    altered, _ = asked["Delivery of drug (Ktrans), flattened"].alter(replace(small_fields, ktrans=leaky.ktrans), plan)
    assert np.ptp(altered.ktrans[leaky.tumour]) < 1e-12
    assert altered.delivery is small_fields.delivery


def test_tissue_without_ktrans_is_refused(small_state):
    """Transport needs a dynamic examination; without transport nothing is asked for."""
    with pytest.raises(ModelRefused, match="Ktrans"):
        expose(small_state, parsed(RAPID_COJEC_CARRIED), 14.0)
    assert expose(small_state, parsed(RAPID_COJEC), 14.0)[0] is small_state
