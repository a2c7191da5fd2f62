"""Codes of quantities, units, methods and places in derived DICOM objects.

Codes are those of DICOM PS3.16 (context groups 4101, 4103, 4107, 7180) and SNOMED CT; what has none there is coded
under the private scheme 99ONCOSCALE, which the objects that use it explain.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ..core.errors import ConfigurationRejected, UnitMissing

SCHEME = "99ONCOSCALE"
"""Private coding scheme. Validators know no scheme but those of the standard and of some makers: they warn of it."""
SCHEME_NAME = "oncoscale: quantities and models without a code in DICOM PS3.16"
LONGEST_CODE = 16
"""Characters of a code value (DICOM PS3.5, SH)."""

ERROR = "_error"
"""A map NAME_error holds the standard errors of NAME."""


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


QUANTITIES: Mapping[str, Code] = {
    "ktrans": codes.DCM.Ktrans,
    "kep": codes.DCM.Kep,
    "ve": codes.DCM.Ve,
    "vp": codes.DCM.Vp,
    "t1": codes.DCM.T1,
    "adc": codes.DCM.ApparentDiffusionCoefficient,
    "pe": _own("pe1", "Percent enhancement"),
    "ser": _own("ser", "Signal enhancement ratio"),
    "fp": _own("fp", "Plasma flow"),
    "ps": _own("ps", "Permeability surface area product"),
    "cellularity": _own("cellularity", "Cellularity"),
    "oxygen": _own("pO2", "Oxygen partial pressure"),
    "b1": _own("b1", "Relative transmit field B1"),
}
"""Quantities of maps, by name."""

UNITS: Mapping[str, Code] = {
    "1/min": codes.UCUM.PerMinute,
    "1": codes.UCUM.NoUnits,
    "s": codes.UCUM.Second,
    "mm^2/s": codes.UCUM.SquareMillimeterPerSecond,
    "percent": codes.UCUM.Percent,
    "mmHg": codes.UCUM.MillimetersHg,
    "mm": codes.UCUM.Millimeter,
    "mL": Code("ml", "UCUM", "milliliter"),
}
"""UCUM codes, by pint's spelling of the unit."""

MODELS: Mapping[str, Code] = {
    "tofts": codes.DCM.StandardToftsModel,
    "extended-tofts": codes.DCM.ExtendedToftsModel,
    "2cxm": codes.DCM.TwoCompartmentExchange2CXModel,
    "patlak": _own("patlak", "Patlak model"),
    "2cum": _own("2cum", "Two compartment uptake model"),
}
"""Kinetic models, by their name in a map's method."""

OTHER_METHODS: Mapping[str, Code] = {
    "variable flip angle": codes.DCM.T1ByMultipleFlipAngles,
    "mono-exponential decay": codes.DCM.MonoExponentialApparentDiffusionCoefficient,
}

INPUT_CURVES: Mapping[str, Code] = {
    "automatic": codes.DCM.AutomaticallyDetectedAIFROI,
    "user": codes.DCM.UserDefinedAIFROI,
    "population": codes.DCM.PopulationAveragedAIF,
}

PROCESSING: Mapping[str, Code] = {
    "adc": codes.DCM.DiffusionImageAnalysis,
    "cellularity": codes.DCM.DiffusionImageAnalysis,
    "t1": codes.DCM.UnspecifiedMethodOfCalculation,
    "b1": codes.DCM.UnspecifiedMethodOfCalculation,
    "": codes.DCM.PerfusionImageAnalysis,
}
"""Kind of processing that a quantity comes from (context group 7203); that of all others under the empty name."""

MEAN = Code("373098007", "SCT", "Mean")
MEDIAN = Code("373099004", "SCT", "Median")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
VOLUME = Code("118565006", "SCT", "Volume")

REGIONS: Mapping[str, tuple[Code, Code]] = {
    "tumour": (codes.SCT.MorphologicallyAbnormalStructure, Code("108369006", "SCT", "Neoplasm")),
    "necrosis": (codes.SCT.MorphologicallyAbnormalStructure, Code("6574001", "SCT", "Necrosis")),
    "oedema": (codes.SCT.MorphologicallyAbnormalStructure, Code("79654002", "SCT", "Edema")),
}
"""(category, type) of a region, by its name; of a region of another name nobody knows what to call it."""

WHOLE_BODY = Code("38266002", "SCT", "Entire body")
BODY_PARTS: Mapping[str, Code] = {
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "BRAIN": Code("12738006", "SCT", "Brain"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "CHEST": Code("816094009", "SCT", "Thorax"),
    "COLON": Code("71854001", "SCT", "Colon"),
    "EXTREMITY": Code("66019005", "SCT", "Extremity"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "KIDNEY": Code("64033007", "SCT", "Kidney"),
    "LEG": Code("30021000", "SCT", "Lower leg"),
    "LIVER": Code("10200004", "SCT", "Liver"),
    "LUNG": Code("39607008", "SCT", "Lung"),
    "NECK": Code("45048000", "SCT", "Neck"),
    "PANCREAS": Code("15776009", "SCT", "Pancreas"),
    "PELVIS": Code("816092008", "SCT", "Pelvis"),
    "PROSTATE": Code("41216001", "SCT", "Prostate"),
    "THIGH": Code("68367000", "SCT", "Thigh"),
}
"""Anatomic regions, by Body Part Examined (DICOM PS3.16 annex L); any other part is the body."""
HEADS = ("BRAIN", "HEAD", "NECK", "SKULL", "FACE")
"""Parts whose images may show a face."""


def quantity_code(name: str) -> Code:
    """The code of a map's quantity. Raises ConfigurationRejected for a name that is no code value.

    >>> quantity_code("ktrans").value
    '126312'
    >>> quantity_code("ktrans_error").meaning
    'Standard error of Ktrans'
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    if name.endswith(ERROR) and name.removesuffix(ERROR) in QUANTITIES:
        of = QUANTITIES[name.removesuffix(ERROR)]
        return _own(name, f"Standard error of {of.meaning}")
    if not 0 < len(name) <= LONGEST_CODE:
        raise ConfigurationRejected(
            f"a map named by {len(name)} characters", f"a name of 1 to {LONGEST_CODE} characters", "rename the map"
        )
    return _own(name, name.replace("_", " "))


def unit_code(unit: str) -> Code:
    """UCUM code of a unit. Raises UnitMissing for one that is not known."""
    if unit not in UNITS:
        raise UnitMissing(f"unit {unit!r} of a map", "one of " + ", ".join(UNITS), "convert the map")
    return UNITS[unit]


def method_code(method: str) -> Code | None:
    """The code of the method that a map's phrase begins with; None if it has none.

    >>> method_code("extended-tofts, variable projection").value
    '126341'
    """
    first = method.split(",")[0].split(";")[0].strip()
    return MODELS.get(first) or OTHER_METHODS.get(first)


def input_curve_code(aif: str, aif_mask: str | None = None) -> Code:
    """How the input curve came about: found in the images, drawn or given by the user, or averaged over a population.

    aif, aif_mask  as in QuantifySettings
    """
    if aif == "measured":
        return INPUT_CURVES["automatic" if aif_mask is None else "user"]
    return INPUT_CURVES["user" if aif.lower().endswith(".csv") else "population"]


def body_part_code(body_part: str) -> Code:
    """Anatomic region of a Body Part Examined."""
    return BODY_PARTS.get(body_part.strip().upper(), WHOLE_BODY)
