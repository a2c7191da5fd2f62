"""Tissues of regions as a forecast's settings state them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import ValidationError

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.sim.laws import LAWS
from oncoscale.sim.materials import HARDENING, PRESETS, materials_of, parameters_of
from oncoscale.sim.preparing import tissue_of
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.tissue import DEFAULT_MATERIALS, HOST, Material, Springs, springs_of
from oncoscale.sim.tumour_type import tumour_type

REGIONS = {"host", "tumour", "spine", "cyst"}


def stated(**tables):
    """The materials that a configuration file's tables state."""
    return ForecastSettings.model_validate({"materials": tables}).materials


def test_what_is_stated_goes_before_what_is_known():
    """Stated values first, then the tissue that it is like, then the disease's, then that of the region's name."""
    found = materials_of(
        DEFAULT_MATERIALS,
        stated(host={"law": "exponential", "young": 2.0}, cyst={"like": "fluid", "poisson": 0.4}),
        REGIONS,
    )
    assert found["host"] == Material(2.0, HOST.poisson, "exponential", HARDENING.value)
    assert found["tumour"] == DEFAULT_MATERIALS["tumour"]
    assert found["spine"] == PRESETS["spine"].material
    assert found["cyst"] == Material(PRESETS["fluid"].young.value, 0.4, "compressible")
    assert materials_of(DEFAULT_MATERIALS, {}, {"host", "tumour"}) == DEFAULT_MATERIALS


def test_white_matter_is_stiffer_than_grey():
    """By 39 % (Budday et al. 2015) in the pontine glioma's brain, and as incompressible; tumour and grey are alike."""
    tissue = tumour_type("dipg").materials
    assert tissue["white"].young == pytest.approx(1.39 * tissue["host"].young)
    assert tissue["white"].poisson == tissue["host"].poisson
    assert tissue["tumour"] == tissue["host"]
    assert PRESETS["white"].young in tumour_type("dipg").parameters


def test_what_materials_rest_on_is_told():
    """Constants of tissues known by name and an exponent that nobody stated are on record, beside the disease's."""
    tables = stated(host={"law": "exponential"}, cyst={"like": "fluid"})
    assert parameters_of(DEFAULT_MATERIALS, tables, REGIONS) == (
        *PRESETS["fluid"].parameters,
        *PRESETS["spine"].parameters,
        HARDENING,
    )
    assert parameters_of(DEFAULT_MATERIALS, {}, {"host", "tumour"}) == ()


def test_materials_of_unknown_regions_and_half_stated_ones_are_refused():
    """A region that is not there, and one whose tissue is not known, are named with what to write."""
    with pytest.raises(ConfigurationRejected, match="materials for brain"):
        materials_of(DEFAULT_MATERIALS, stated(brain={"young": 2.0}), {"host", "tumour"})
    with pytest.raises(ConfigurationRejected, match=r"materials\.cyst"):
        materials_of(DEFAULT_MATERIALS, stated(cyst={"young": 2.0}), REGIONS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"materials": {"host": {"law": "rubber"}}},
        {"materials": {"host": {"like": "jelly"}}},
        {"materials": {"host": {"young": -1.0}}},
        {"materials": {"host": {"stiffness": 1.0}}},
        {"supports": {"outside": "glued"}},
        {"supports": {"outside": -0.1}},
        {"stress_feedback": 0.0},
    ],
)
def test_impossible_settings_are_refused_when_they_are_read(wrong):
    """Unknown laws, tissues, keys and supports, and impossible numbers, never reach a computation."""
    with pytest.raises(ValidationError):
        ForecastSettings.model_validate(wrong)


def test_settings_become_the_tissue_of_a_forecast():
    """Without keys a forecast has its disease's tissues and springs outside; with keys what they say, told with it."""
    disease, mesh = tumour_type("neuroblastoma"), ball_octant((1.0, 2.0), (1, 1))
    materials, supports, rests_on = tissue_of(disease, ForecastSettings(), mesh)
    assert materials == disease.materials
    assert supports == springs_of(materials["host"])
    assert rests_on == ()
    settings = ForecastSettings.model_validate(
        {
            "host_young": 3.0,
            "materials": {"tumour": {"law": "compressible", "poisson": 0.3}},
            "supports": {"tumour": 0.2, "outside": "free"},
            "stress_feedback": 4.0,
        }
    )
    materials, supports, rests_on = tissue_of(disease, settings, mesh)
    assert materials["host"].young == 3.0
    assert materials["tumour"] == Material(disease.materials["tumour"].young, 0.3, "compressible")
    assert supports.springs == (Springs(0.2, "tumour"),)
    assert supports.free == ("outside",)
    assert [parameter.value for parameter in rests_on] == [4.0]


def test_contradictions_and_absent_surfaces_are_refused_before_anything_is_computed():
    """Two stiffnesses of one region, and a support of a region that the mesh lacks, are refused."""
    disease, mesh = tumour_type("neuroblastoma"), ball_octant((1.0, 2.0), (1, 1))
    twice = ForecastSettings.model_validate({"host_young": 3.0, "materials": {"host": {"young": 2.0}}})
    with pytest.raises(ConfigurationRejected, match="two stiffnesses of the host"):
        tissue_of(disease, twice, mesh)
    with pytest.raises(ConfigurationRejected, match="skull"):
        tissue_of(disease, ForecastSettings.model_validate({"supports": {"skull": "fixed"}}), mesh)


def test_the_settings_in_the_documentation_are_possible():
    """The block of settings that the page on tissue shows is read as it stands and becomes a tissue."""
    page = (Path(__file__).parents[2] / "docs" / "tissue" / "choices.rst").read_text(encoding="utf-8")
    block = page.split(".. code-block:: toml\n\n")[1].split("\n\nLaws\n")[0]
    settings = ForecastSettings.model_validate(tomllib.loads(dedent(block)))
    materials, supports, rests_on = tissue_of(tumour_type("neuroblastoma"), settings, ball_octant((1.0, 2.0), (1, 1)))
    assert materials["host"] == Material(
        PRESETS["liver"].young.value, PRESETS["liver"].poisson.value, "exponential", 2.0
    )
    assert supports.words() == "springs of 0.05 kPa/mm on the outer boundary"
    assert len(rests_on) == 3
    assert all(f"``{law}``" in page for law in LAWS)
    assert all(name in page for name in PRESETS)
