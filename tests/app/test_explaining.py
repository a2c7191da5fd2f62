"""The verb ``explain`` for a disease whose cells are not those of the released program."""

from __future__ import annotations

from oncoscale.agents import glioma
from oncoscale.app.explaining import explain


def test_each_disease_is_explained_by_its_own_cells():
    """Pontine glioma lists the rules and numbers of glioma cells, neuroblastoma its own; both their tissue."""
    content = explain("dipg").content
    assert [rule["name"] for rule in content["rules"]] == [rule.__name__ for rule in glioma.GLIOMA_HOUR]
    assert set(content["parameters_of_cells"]) == set(glioma.TABLE)
    assert "wander — glioma cell (6)" in explain("dipg").words
    assert any("swell" in one["meaning"] or "stretch" in one["meaning"] for one in content["parameters"])
    assert "express_oncogenes" in [rule["name"] for rule in explain("neuroblastoma").content["rules"]]
