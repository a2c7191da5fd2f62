"""Options as they are typed: those of maps are the same wherever maps are made."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature

import pytest
import typer

from oncoscale.app.cli import app
from oncoscale.app.option_groups import Contrast, Enhancement, Fit, OfFiles, Simulated, unfolded
from oncoscale.app.options import NAMES_OF_SETTINGS, forecast_settings, quantify_settings, read_widths
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.quantify import QuantifySettings
from oncoscale.imaging.systematic import SOURCES, WIDTHS, Widths

OF_FILES = {field.name for field in fields(OfFiles)} | {"visit", "series"}
"""Options that say how a folder is read; a stored study has been read already."""
OF_RESULTS = {"dicom", "no_pictures", "mesh", "diffusion"}
"""Options that say what is written beside the maps."""
OF_MAPS = (Contrast, Enhancement, Fit)
"""Groups of options that say how maps are made."""
WITHOUT_OPTION = {"all_baseline", "background", "densest_adc", "neighbours", "threads", "vessel_radius"}
"""Settings of the quantification for those who call it from Python."""


def options_of(name: str) -> set[str]:
    """The options of a command, by the names of its parameters."""
    return {parameter.name for parameter in typer.main.get_command(app).commands[name].params}


def test_every_setting_of_the_maps_can_be_typed():
    """Each option of the maps is a setting of the quantification; the settings that have none are known."""
    options = {field.name for group in OF_MAPS for field in fields(group)} | {"seed"}
    named = {NAMES_OF_SETTINGS.get(name, name) for name in options}
    assert {field.name for field in fields(QuantifySettings)} - named == WITHOUT_OPTION
    assert named <= {field.name for field in fields(QuantifySettings)}


@pytest.mark.parametrize("name", ["quantify", "forecast"])
def test_every_command_that_makes_maps_takes_their_options(name):
    """None can do what another cannot."""
    assert {field.name for group in OF_MAPS for field in fields(group)} <= options_of(name)


def test_a_forecast_can_make_the_maps_that_quantify_makes():
    """Beyond reading files and writing results, quantify has no option that forecast lacks."""
    missing = options_of("quantify") - options_of("forecast") - OF_FILES - OF_RESULTS
    assert missing == set()


def test_a_group_stands_where_its_options_stand():
    """A command that takes a group has its fields for options, in the group's place, and is given the group whole."""
    given = []

    @unfolded
    def command(*, study: str, threshold: Enhancement, pieces: str = "refuse") -> None:
        given.append((study, threshold, pieces))

    assert list(signature(command).parameters) == ["study", "pe_threshold", "ser_threshold", "pieces"]
    command(study="T-1", pe_threshold=50.0, ser_threshold=None, pieces="all")
    assert given == [("T-1", Enhancement(pe_threshold=50.0), "all")]


def test_what_was_not_typed_keeps_its_default(tmp_path):
    """None means the default; a file of widths changes those that it names."""
    file = tmp_path / "widths.toml"
    file.write_text("haematocrit = 0.02\ndelay_s = 0\n")
    contrast = Contrast(dce_model="tofts", aif="measured", aif_mask=tmp_path / "artery.nii.gz", delay=3.0)
    made = quantify_settings(contrast, Enhancement(), Fit(systematic=80, widths=file), seed=4)
    assert (made.dce_model, made.aif_mask, made.delay_s) == ("tofts", str(tmp_path / "artery.nii.gz"), 3.0)
    assert (made.systematic, made.baseline, made.motion, made.fit_domain) == (80, None, "off", "concentration")
    assert made.widths == Widths(haematocrit=0.02, delay_s=0.0)
    assert quantify_settings(Contrast(), Enhancement(), Fit(), seed=1) == QuantifySettings()


@pytest.mark.parametrize(("typed", "meant"), [("vfa", "vfa"), ("1.2", 1.2), ("t1.nii.gz", "t1.nii.gz")])
def test_t1_is_a_method_a_number_or_a_file(typed, meant):
    """A number is of seconds."""
    assert quantify_settings(Contrast(t1=typed), Enhancement(), Fit(), seed=1).t1 == meant


def test_what_is_typed_wins_over_the_file_of_settings(tmp_path):
    """What was not typed is as the file says; effects are switched off by an option and by nothing else."""
    file = tmp_path / "forecast.toml"
    file.write_text("elements = 8\nmembers = 2\nsize = 4.0\n")
    made = forecast_settings(file, Simulated(elements="all", no_effects=True), size=None, host_size=9.0)
    assert (made.elements, made.members, made.size, made.host_size, made.effects) == ("all", 2, 4.0, 9.0, False)
    made = forecast_settings(file, Simulated(elements="5"))
    assert (made.elements, made.effects) == (5, True)


@pytest.mark.parametrize("line", ["hematocrit = 0.02", 't10 = "a lot"', "b1 = true"])
def test_a_wrong_width_is_named(tmp_path, line):
    """An unknown key gets the nearest known one, a value that is no number is refused."""
    file = tmp_path / "widths.toml"
    file.write_text(line)
    with pytest.raises(ConfigurationRejected, match=line.split(" ")[0]):
        read_widths(file)


def test_every_width_has_a_source_within_its_range():
    """What a width means, where it is from, and that its default lies in its range, is on record."""
    assert tuple(WIDTHS) == SOURCES
    for name, width in WIDTHS.items():
        assert width.value == getattr(Widths(), name)
        assert width.range is not None
        assert width.source


@pytest.mark.parametrize(
    "line",
    [
        "size = inf",
        "host_size = inf",
        "tumour_young = inf",
        "[materials.host]\nyoung = inf",
        "[supports]\noutside = inf",
    ],
)
def test_what_is_not_finite_is_refused_before_anything_is_read(tmp_path, line):
    """No length, stiffness or spring is infinite: the settings say so, not a mesh or a solver minutes later."""
    file = tmp_path / "forecast.toml"
    file.write_text(line)
    with pytest.raises(ConfigurationRejected, match="finite"):
        forecast_settings(file, Simulated())
