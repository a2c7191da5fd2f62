"""How commands speak of series and findings: one line or one row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..imaging.study import Finding, Series


def finding_line(finding: Finding) -> str:
    return f"{finding.kind:<8}  {finding.where}: {finding.text}"


def series_line(row: Mapping[str, Any]) -> str:
    what = f"{row['number']:>2} {row['role']:<10} {row['modality']:<4} {row['size']:<16} {row['spacing']:<22}"
    return f"{what} {row['timing']:<34} {row['extra']}".rstrip()


def _timing(series: Series) -> str:
    """Repetition and echo time, flip angle and field, as far as they are known."""
    values = {key: sourced.value for key, sourced in series.acquisition.items()}
    angles = values.get("fa_deg")
    words = [f"TR {1000 * values['tr_s']:.4g} ms"] if "tr_s" in values else []
    words += [f"TE {1000 * values['te_s']:.3g} ms"] if "te_s" in values else []
    if angles is not None:
        words.append(("/".join(f"{angle:g}" for angle in angles) if isinstance(angles, tuple) else f"{angles:g}") + "°")
    return ", ".join([*words, *([f"{values['field_t']:.3g} T"] if "field_t" in values else [])])


def series_rows(series: Iterable[Series]) -> list[dict[str, Any]]:
    """A row a series; its number is what ``--series`` takes."""
    return [{"number": number, **_series_row(one)} for number, one in enumerate(series, start=1)]


def _series_row(series: Series) -> dict[str, Any]:
    size = " × ".join(str(n) for n in series.grid.shape)
    spacing = " × ".join(f"{step:.3g}" for step in series.grid.spacing) + " mm"
    extra = ""
    if series.times_s is not None and len(series.times_s):
        extra = f"{len(series.times_s)} frames over {series.times_s[-1]:.0f} s"
    elif series.b_values is not None:
        extra = "b " + ", ".join(f"{b:g}" for b in series.b_values)
    return {
        "uid": series.uid,
        "role": series.role,
        "modality": series.modality,
        "description": series.description,
        "size": size,
        "spacing": spacing,
        "timing": _timing(series),
        "extra": extra,
        "shape": series.grid.shape,
        "times_s": None if series.times_s is None else [float(t) for t in series.times_s],
        "b_values": None if series.b_values is None else [float(b) for b in series.b_values],
    }
