"""Harmonisation of features across sites: ComBat, estimated on one cohort and applied to new subjects.

For site i, subject j and feature g, with covariates X that are kept (Johnson, Li and Rabinovic 2007, Biostatistics
8:118-127, doi 10.1093/biostatistics/kxj037; for images Fortin et al. 2018, doi 10.1016/j.neuroimage.2017.11.024):

    y_ijg  = alpha_g + X_j beta_g + gamma_ig + delta_ig eps_ijg
    y*_ijg = sigma_g / delta*_ig (z_ijg - gamma*_ig) + alpha_g + X_j beta_g
    z_ijg  = (y_ijg - alpha_g - X_j beta_g) / sigma_g

gamma* and delta* are shrunk towards their site's mean over all features by empirical Bayes. Quantities that obey an
equation of their own (Ktrans, ADC, …) are refused: an adjusted rate constant obeys it no longer.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, FileRejected, ModelRefused
from ..core.files import write_json, write_text
from ..core.quantity import Parameter

LEAST_SUBJECTS = Parameter(
    20,
    "1",
    "fewest subjects of a site from which its effect is estimated",
    source="project specification, imaging §11",
    range=(3, 1000),
    assumed=True,
)
LEAST_SUBJECTS_EVER = 3
"""With fewer, a site has no variance worth the name: no option goes below."""
LEAST_FEATURES = 3
"""With fewer there is nothing to shrink towards: the site's own mean and variance are used as they are."""
CONVERGED = 1e-8
MOST_ITERATIONS = 10_000
CONSTANT = 1e-12
"""Residual variance below this share of the squared mean is rounding: the feature does not vary."""
FORMAT = "oncoscale-combat-1"

MECHANISTIC = ("ktrans", "kep", "ve", "vp", "fp", "ps", "adc", "cellularity", "concentration", "t1", "b1")
"""Quantities with an equation of their own (project specification, imaging §11)."""


@dataclass(frozen=True, eq=False)
class Table:
    """Subjects in rows, features and facts about them in columns, all as text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> list[str]:
        """One column. Raises ConfigurationRejected for one that is not there."""
        if name not in self.columns:
            raise ConfigurationRejected(
                f"the table has no column {name!r}", "one of its columns", "check the names in its first line"
            )
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(rows, names). Raises FileRejected for a cell that is no finite number, naming the column alone."""
        values = np.empty((len(self.rows), len(names)))
        for place, name in enumerate(names):
            try:
                values[:, place] = [float(cell) for cell in self.column(name)]
            except ValueError:
                values[:, place] = np.nan
            if not np.isfinite(values[:, place]).all():
                raise FileRejected(
                    f"column {name!r} has an empty cell or one that is no number",
                    "a finite number for every subject",
                    "leave the feature out, or the subjects without it",
                )
        return values


def read_table(path: Path | str) -> Table:
    """A CSV table with a line of names. Raises FileRejected."""
    try:
        lines = [row for row in csv.reader(io.StringIO(Path(path).read_text(encoding="utf-8-sig"))) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise FileRejected("the table cannot be read", "a CSV file in UTF-8", "check the path and the file") from None
    if len(lines) < 2 or len(set(lines[0])) < len(lines[0]) or any(len(row) != len(lines[0]) for row in lines):
        raise FileRejected(
            "the table has no rows, rows of different length, or two columns of one name",
            "a line of names, and one line a subject",
            "write the table again",
        )
    return Table(tuple(lines[0]), tuple(tuple(row) for row in lines[1:]))


def write_table(path: Path | str, table: Table, names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Write the table with ``values`` (rows, names) in place of the columns of those names."""
    places = {table.columns.index(name): place for place, name in enumerate(names)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row, new in zip(table.rows, values):
        writer.writerow([repr(float(new[places[n]])) if n in places else cell for n, cell in enumerate(row)])
    write_text(path, text.getvalue())


# ------------------------------------------------------------------------------------------------------- covariates


@dataclass(frozen=True)
class Covariate:
    """A covariate that is kept.

    levels  the values of a categorical one, sorted, the first being the reference; () for a number
    """

    name: str
    levels: tuple[str, ...] = ()

    def columns(self, table: Table) -> NDArray[np.float64]:
        """(rows, 1) the number, or (rows, levels - 1) indicators. Raises ConfigurationRejected for a new level."""
        if not self.levels:
            return table.numbers([self.name])
        cells = table.column(self.name)
        unknown = len([cell for cell in cells if cell not in self.levels])
        if unknown:
            raise ConfigurationRejected(
                f"{unknown} subjects have a value of {self.name!r} that the cohort of the model had not",
                f"one of its {len(self.levels)} values",
                "leave these subjects out, or fit on a cohort that has them",
            )
        return np.array([[float(cell == level) for level in self.levels[1:]] for cell in cells])


def covariate_of(table: Table, name: str) -> Covariate:
    """A covariate as found in a table: a number if every cell is one, else categories."""
    cells = table.column(name)
    try:
        [float(cell) for cell in cells]
    except ValueError:
        if "" in cells:
            raise FileRejected(
                f"covariate {name!r} has empty cells", "a value for every subject", "leave those subjects out"
            ) from None
        return Covariate(name, tuple(sorted(set(cells))))
    return Covariate(name)


def _design(table: Table, covariates: Sequence[Covariate]) -> NDArray[np.float64]:
    """(rows, k) columns of all covariates."""
    return np.hstack([np.zeros((len(table.rows), 0)), *[one.columns(table) for one in covariates]])


# ------------------------------------------------------------------------------------------------------- the model


@dataclass(frozen=True, eq=False)
class Combat:
    """Estimates of a cohort.

    site          name of the column of sites
    sites         their names; rows of gamma and delta
    features      columns of all arrays
    alpha, sigma  (features,) mean over the cohort, standard deviation of the residuals
    beta          (k, features) effects of the covariates' columns
    gamma, delta  (sites, features) shrunk shift and scale of each site, in units of sigma
    subjects      number of each site
    """

    site: str
    sites: tuple[str, ...]
    features: tuple[str, ...]
    covariates: tuple[Covariate, ...]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    sigma: NDArray[np.float64]
    gamma: NDArray[np.float64]
    delta: NDArray[np.float64]
    subjects: tuple[int, ...]


def refuse_mechanistic(names: Sequence[str]) -> None:
    """Raise ModelRefused for a feature that is a quantity with an equation of its own."""
    found = [name for name in names if set(re.split(r"[^a-z0-9]+", name.lower())) & set(MECHANISTIC)]
    if found:
        raise ModelRefused(
            f"{', '.join(found)} obeys an equation of its own, which an adjusted value would break",
            "features of intensity, shape or texture",
            "correct T1, B1, input function or b-values instead, and leave these columns out",
        )


def feature_columns(table: Table, others: Sequence[str]) -> tuple[str, ...]:
    """The columns of numbers that are not among ``others``."""

    def is_number(name: str) -> bool:
        try:
            return bool([float(cell) for cell in table.column(name)])
        except ValueError:
            return False

    return tuple(name for name in table.columns if name not in others and is_number(name))


def fit_combat(
    table: Table,
    *,
    site: str,
    features: Sequence[str],
    keep: Sequence[str] = (),
    subject: str | None = None,
    least: int | None = None,
) -> Combat:
    """Estimate the effects of sites on a cohort.

    site     column of sites
    keep     columns of covariates whose effect must stay
    subject  column of subjects, if one may have several rows
    least    fewest subjects of a site; None: LEAST_SUBJECTS

    Raises ModelRefused for a cohort that cannot carry the estimate (too few subjects of a site, one site, a feature
    that does not vary, a covariate that cannot be told from the site) and for mechanistic quantities.
    """
    refuse_mechanistic(features)
    if not features:
        raise ModelRefused("no feature to harmonise", "columns of numbers", "name them with --feature")
    cells = np.array(table.column(site))
    counts = _subjects_of(cells, table.column(subject) if subject else [str(n) for n in range(len(cells))])
    _check_counts(counts, LEAST_SUBJECTS.value if least is None else max(least, LEAST_SUBJECTS_EVER))
    sites = tuple(sorted(counts))
    covariates = tuple(covariate_of(table, name) for name in keep)
    values, kept = table.numbers(features), _design(table, covariates)
    of_site = np.array([[float(cell == name) for name in sites] for cell in cells])
    design = np.hstack([of_site, kept])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ModelRefused(
            "a covariate cannot be told from the site: each of its values occurs at some sites only, or it is constant",
            "covariates that vary within sites",
            "leave the covariate out, or add subjects that separate them",
        )
    effects = np.linalg.lstsq(design, values, rcond=None)[0]
    alpha = of_site.mean(axis=0) @ effects[: len(sites)]
    beta = effects[len(sites) :]
    sigma = np.sqrt(((values - design @ effects) ** 2).mean(axis=0))
    _check_varies(values, sigma, of_site, features)
    z = (values - alpha - kept @ beta) / sigma
    pairs = [_shrunk(z[cells == name]) for name in sites]
    gamma, delta = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    return Combat(
        site,
        sites,
        tuple(features),
        covariates,
        alpha,
        beta,
        sigma,
        gamma,
        delta,
        tuple(counts[name] for name in sites),
    )


def _subjects_of(sites: NDArray[np.str_], subjects: Sequence[str]) -> dict[str, int]:
    """Number of different subjects of each site."""
    return dict(Counter(site for site, _ in set(zip(sites.tolist(), subjects))))


def _check_counts(counts: Mapping[str, int], least: float) -> None:
    if sum(counts.values()) < 2:
        raise ModelRefused(
            "a cohort of one subject", f"at least {least:g} subjects a site", "fit on a cohort, then apply the model"
        )
    if len(counts) < 2:
        raise ModelRefused("one site", "at least two sites", "there is nothing to harmonise")
    few = [name for name, count in sorted(counts.items()) if count < least]
    if few:
        raise ModelRefused(
            f"{len(few)} of {len(counts)} sites have fewer than {least:g} subjects (fewest: {min(counts.values())})",
            f"at least {least:g} subjects a site",
            "leave those sites out, or state a smaller --least if you accept a less certain estimate",
        )


def _check_varies(
    values: NDArray[np.float64], sigma: NDArray[np.float64], of_site: NDArray[np.float64], features: Sequence[str]
) -> None:
    scale = CONSTANT * (np.abs(values).max(axis=0) ** 2 + np.finfo(float).tiny)
    still = sigma**2 <= scale
    for column in of_site.T:
        still |= values[column > 0].var(axis=0) <= scale
    if still.any():
        names = [name for name, constant in zip(features, still) if constant]
        raise ModelRefused(
            f"{', '.join(names)} does not vary, in the cohort or within a site",
            "features that vary within every site",
            "leave these columns out",
        )


def _shrunk(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(features,) gamma* and delta* of one site by parametric empirical Bayes [Johnson 2007, section 3.2].

    z  (subjects, features) standardised values of the site

    Priors are normal for the shift and inverse gamma for the squared scale, by moments over features; the two
    conditional means are iterated until neither changes.
    """
    n = len(z)
    gamma_hat, square_hat = z.mean(axis=0), z.var(axis=0, ddof=1)
    if z.shape[1] < LEAST_FEATURES or gamma_hat.var(ddof=1) == 0 or square_hat.var(ddof=1) == 0:
        return gamma_hat, np.sqrt(square_hat)
    gamma_bar, tau2 = gamma_hat.mean(), gamma_hat.var(ddof=1)
    mean, spread = square_hat.mean(), square_hat.var(ddof=1)
    shape, scale = (mean**2 + 2 * spread) / spread, (mean**3 + mean * spread) / spread
    gamma, square = gamma_hat, square_hat
    for _ in range(MOST_ITERATIONS):
        next_gamma = (n * tau2 * gamma_hat + square * gamma_bar) / (n * tau2 + square)
        next_square = (scale + 0.5 * ((z - next_gamma) ** 2).sum(axis=0)) / (n / 2 + shape - 1)
        moved = max(np.abs(next_gamma - gamma).max(), np.abs(next_square / square - 1).max())
        gamma, square = next_gamma, next_square
        if moved < CONVERGED:
            break
    return gamma, np.sqrt(square)


def apply_combat(model: Combat, table: Table) -> NDArray[np.float64]:
    """(rows, features) harmonised values of new subjects, or of the cohort itself.

    Raises ModelRefused for a site that the model does not know, ConfigurationRejected for a missing column.
    """
    refuse_mechanistic(model.features)
    cells = table.column(model.site)
    unknown = sorted({cell for cell in cells if cell not in model.sites})
    if unknown:
        raise ModelRefused(
            f"{len(unknown)} sites of the table are not in the model",
            f"one of its {len(model.sites)} sites",
            "fit a model on a cohort that has these sites: the effect of an unseen site cannot be known",
        )
    row = np.array([model.sites.index(cell) for cell in cells])
    expected = model.alpha + _design(table, model.covariates) @ model.beta
    z = (table.numbers(model.features) - expected) / model.sigma
    return np.asarray(model.sigma * (z - model.gamma[row]) / model.delta[row] + expected)


def site_share(values: NDArray[np.float64], sites: Sequence[str]) -> NDArray[np.float64]:
    """(features,) share of a feature's variance that lies between sites, 0 to 1 (eta squared)."""
    groups = np.array(sites)
    total = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    between = sum(
        (groups == name).sum() * (values[groups == name].mean(axis=0) - values.mean(axis=0)) ** 2
        for name in np.unique(groups)
    )
    return np.asarray(between / np.where(total > 0, total, 1.0))


# ------------------------------------------------------------------------------------------------------------ files


def write_model(path: Path | str, model: Combat) -> None:
    """Write the estimates as JSON: no value of any subject is in them."""
    write_json(
        path,
        {
            "format": FORMAT,
            "method": "ComBat, parametric empirical Bayes (doi 10.1093/biostatistics/kxj037)",
            "site": model.site,
            "sites": list(model.sites),
            "subjects": list(model.subjects),
            "features": list(model.features),
            "covariates": [{"name": one.name, "levels": list(one.levels)} for one in model.covariates],
            **{name: getattr(model, name).tolist() for name in ("alpha", "beta", "sigma", "gamma", "delta")},
            "versions": {name: version(name) for name in ("oncoscale", "numpy")},
        },
    )


def read_model(path: Path | str) -> Combat:
    """Read what write_model wrote. Raises FileRejected."""
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError
        arrays = {name: np.array(content[name], dtype=float) for name in ("alpha", "sigma", "gamma", "delta")}
        beta = np.array(content["beta"], dtype=float).reshape(-1, len(content["features"]))
        model = Combat(
            site=content["site"],
            sites=tuple(content["sites"]),
            features=tuple(content["features"]),
            covariates=tuple(Covariate(one["name"], tuple(one["levels"])) for one in content["covariates"]),
            beta=beta,
            subjects=tuple(content["subjects"]),
            **arrays,
        )
        shape = (len(model.sites), len(model.features))
        if model.gamma.shape != shape or model.delta.shape != shape or model.alpha.shape != shape[1:]:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise FileRejected(
            "the model of the harmonisation cannot be read",
            "a file written by `oncoscale harmonise fit`",
            "check its path, or fit again",
        ) from None
    return model
