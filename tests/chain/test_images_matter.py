"""What the images say changes a forecast by more than chance does."""

from __future__ import annotations

import pytest

THOROUGH = ("--elements", 20, "--cells", 500, "--members", 3, "--days", 14)


def changes_that_matter(forecast):
    """Words of each effect that exceeds the spread over seeds."""
    return [effect["what"] for effect in forecast["rests_on"] if effect["matters"]]


@pytest.fixture(scope="module")
def options(workplace, cojec):
    """Of each patient: one is treated; the other, whose outline takes long to mesh, keeps its first mesh."""
    (workplace / "one-mesh.toml").write_text("[remeshing]\nallowed = false\n")
    return {
        "reference": ("--treatment", cojec),
        "breast": ("--mesher", "bcc", "--config", workplace / "one-mesh.toml"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["reference", "breast"])
def test_the_images_matter(whose, request, forecast_of, options):
    """Blood supply, cellularity, drug delivery, cells and the host's stiffness each change more than chance does."""
    visit = request.getfixturevalue(f"{whose}_visit")
    forecast = forecast_of(visit, f"matters-{whose}", *THOROUGH, *options[whose])
    matters = " | ".join(changes_that_matter(forecast))
    wanted = ["Supply of blood", "Cellularity", "Cells replaced", "Host as stiff"]
    for words in wanted + (["Delivery of drug (Ktrans)"] if whose == "reference" else []):
        assert words in matters, forecast["rests_on"]
