"""Options as they are typed: those of maps are the same wherever maps are made."""

from __future__ import annotations

from inspect import signature

import pytest
import typer

from oncoscale.app.cli import app
from oncoscale.app.options import forecast_settings, quantify_settings, read_widths
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.systematic import SOURCES, WIDTHS, Widths

OF_FILES = {"unit", "same_subject", "label", "times", "visit", "series"}
"""Options that say how a folder is read; a stored study has been read already."""
OF_RESULTS = {"dicom", "no_pictures", "mesh", "diffusion"}
"""Options that say what is written beside the maps."""


def options_of(name: str) -> set[str]:
    """The options of a command, by the names of its parameters."""
    return {parameter.name for parameter in typer.main.get_command(app).commands[name].params}


@pytest.mark.parametrize("name", ["quantify", "forecast"])
def test_every_setting_of_the_maps_can_be_typed(name):
    """What the settings of the quantification take is an option of each command that makes maps."""
    assert set(signature(quantify_settings).parameters) <= options_of(name)


def test_a_forecast_can_make_the_maps_that_quantify_makes():
    """Beyond reading files and writing results, quantify has no option that forecast lacks."""
    missing = options_of("quantify") - options_of("forecast") - OF_FILES - OF_RESULTS
    assert missing == set()


def test_what_was_not_typed_keeps_its_default(tmp_path):
    """None means the default; a file of widths changes those that it names."""
    file = tmp_path / "widths.toml"
    file.write_text("haematocrit = 0.02\ndelay_s = 0\n")
    nothing = dict.fromkeys(signature(quantify_settings).parameters)
    typed = nothing | {"dce_model": "tofts", "aif_mask": tmp_path / "artery.nii.gz", "aif": "measured", "delay": 3.0}
    made = quantify_settings(**typed | {"widths": file, "systematic": 80})
    assert (made.dce_model, made.aif_mask, made.delay_s) == ("tofts", str(tmp_path / "artery.nii.gz"), 3.0)
    assert (made.systematic, made.baseline, made.motion, made.fit_domain) == (80, None, "off", "concentration")
    assert made.widths == Widths(haematocrit=0.02, delay_s=0.0)


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
        forecast_settings(file)
