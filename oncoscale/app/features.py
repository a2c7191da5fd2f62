"""The verbs ``radiomics`` and ``harmonise`` as Python calls: from an image to features, across scanners and sites."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import folder_written_whole, write_json, write_text
from .console import Result
from .options import label_pairs, read_toml, refused

if TYPE_CHECKING:
    from ..imaging.harmonise import Table
    from ..imaging.intensity import Intensities
    from ..imaging.radiomics_settings import RadiomicsSettings

Progress = Callable[[str, float], None]
HARMONISED = "harmonised.dcm"


def _ending(option: str, path: Path, *endings: str) -> None:
    if path.suffix.lower() not in endings:
        raise ConfigurationRejected(
            f"{option} {path.name}", "a name ending in " + " or ".join(endings), "choose another name"
        )


# -------------------------------------------------------------------------------------------------------- radiomics


def radiomics_settings(config: str | None) -> RadiomicsSettings:
    """Settings from a TOML file, or from the name of a configuration that comes along (``ibsi-A``)."""
    import tomllib

    from pydantic import ValidationError

    from ..imaging.radiomics_settings import DEFAULT, RadiomicsSettings, configuration_names, configuration_text

    name = config or DEFAULT
    known = configuration_names()
    if name not in known and not Path(name).is_file():
        raise ConfigurationRejected(
            f"--ibsi-config {Path(name).name}", "a TOML file, or one of " + ", ".join(known), "check the path or name"
        )
    values = tomllib.loads(configuration_text(name)) if name in known else read_toml(Path(name))
    try:
        return RadiomicsSettings.model_validate(dict(values))
    except ValidationError as error:
        raise refused(
            f"configuration {Path(name).name!r}",
            error,
            RadiomicsSettings.model_fields,
            "see `oncoscale schema radiomics`",
        ) from error


def radiomics(
    image: Path,
    mask: Path,
    *,
    out: Path,
    config: str | None = None,
    roi: str | None = None,
    labels: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Features of one region of one image, with their settings beside them."""
    from ..imaging.guarded import Guard
    from ..imaging.radiomics import account_of, write_features
    from ..imaging.radiomics import radiomics as compute
    from ..imaging.single_image import files_digest, read_image, read_mask

    _ending("--out", out, ".csv")
    settings = radiomics_settings(config)
    if dry_run:
        return Result(
            {"dry_run": True, "would_write": [out.name, out.with_suffix(".json").name], "settings": settings.digest},
            f"Would write {out.name} and {out.with_suffix('.json').name} (settings {settings.digest}).",
        )
    (progress or (lambda what, done: None))("reading", 0.0)
    with Guard() as guard:
        source = guard.read("the image", read_image, image, paths=[image])
        drawn = partial(read_mask, mask, source.grid, roi=roi, names=label_pairs(labels) or None)
        region = guard.read("the mask", drawn, paths=[mask])
    found = compute(source.grid, source.values, region, settings, progress)
    hashes = {"image_sha256": source.digest, "mask_sha256": files_digest(mask)}
    beside = write_features(out, found, hashes)
    values = {row.tag: row.value if row.value == row.value else None for row in found.values}
    account = account_of(found)
    words = [f"{out}: {len(found.values)} features of {found.voxels} voxels, their settings in {beside.name}"]
    if account["undefined"]:
        words.append(f"{len(account['undefined'])} features are undefined for this region")
    return Result({"file": str(out), "values": values, **account, "sources": hashes}, "\n".join(words))


# ------------------------------------------------------------------------------------------------- features of sites


def gather(files: Sequence[Path], *, out: Path) -> Result:
    """One table of many FEATURES.csv: a subject a line, called by its file's name; all of the same settings."""
    from ..imaging.harmonise import read_table
    from ..imaging.radiomics import COLUMNS

    _ending("--out", out, ".csv")
    tables = [read_table(file) for file in files]
    if any(table.columns != COLUMNS for table in tables):
        raise FileRejected("a table that is none of features", "files of `oncoscale radiomics`", "check the paths")
    if len({(tuple(table.column("tag")), table.column("settings")[0]) for table in tables}) != 1:
        raise FileRejected(
            "tables of different features or settings", "one configuration for all", "compute them again with one"
        )
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", *tables[0].column("tag")])
    for file, table in zip(files, tables):
        writer.writerow([file.stem, *table.column("value")])
    write_text(out, text.getvalue())
    content = {"table": str(out), "subjects": len(files), "features": len(tables[0].rows)}
    return Result(content, f"{out}: {len(files)} subjects, {len(tables[0].rows)} features")


def fit(
    path: Path,
    *,
    out: Path,
    site: str,
    keep: Sequence[str] = (),
    features: Sequence[str] = (),
    ignore: Sequence[str] = (),
    subject: str | None = None,
    least: int | None = None,
    plot: Path | None = None,
) -> Result:
    """Estimate the effects of sites on a cohort, and store the estimates."""
    from ..imaging.harmonise import apply_combat, feature_columns, fit_combat, read_table, write_model

    _ending("--out", out, ".json")
    table = read_table(path)
    others = {site, *keep, *ignore, *([subject] if subject else [])}
    for name in others:
        table.column(name)
    chosen = tuple(features) or feature_columns(table, tuple(others))
    model = fit_combat(table, site=site, features=chosen, keep=keep, subject=subject, least=least)
    write_model(out, model)
    shares = _shares(table, model.features, model.site, apply_combat(model, table), plot)
    left = [name for name in table.columns if name not in others and name not in model.features]
    content = {
        "model": str(out),
        "left_out": left,
        "sites": dict(zip(model.sites, model.subjects)),
        "features": len(model.features),
        "kept": [one.name for one in model.covariates],
        **shares,
    }
    words = f"{out}: {len(model.features)} features, {len(model.sites)} sites, kept: {', '.join(keep) or 'nothing'}"
    words += f"\nLeft out, not numbers throughout or not asked for: {', '.join(left)}" if left else ""
    return Result(content, f"{words}\n{_share_words(shares)}")


def apply(path: Path, *, model: Path, out: Path, plot: Path | None = None) -> Result:
    """Harmonise new subjects with stored estimates."""
    from ..imaging.harmonise import apply_combat, read_model, read_table, write_table

    _ending("--out", out, ".csv")
    table, estimates = read_table(path), read_model(model)
    values = apply_combat(estimates, table)
    write_table(out, table, estimates.features, values)
    shares = _shares(table, estimates.features, estimates.site, values, plot)
    words = f"{out}: {len(values)} subjects, {len(estimates.features)} features harmonised"
    content = {"table": str(out), "subjects": len(values), "features": len(estimates.features), **shares}
    return Result(content, f"{words}\n{_share_words(shares)}")


def _shares(table: Table, features: Sequence[str], site: str, after: Any, plot: Path | None) -> dict[str, Any]:
    """How much of the variance lies between sites, before and after, on average; and the picture of it."""
    from ..imaging.harmonise import site_share

    before, sites = table.numbers(features), table.column(site)
    shares = [site_share(values, sites) for values in (before, after)]
    if plot is not None:
        from .features_picture import draw_sites

        _ending("--plot", plot, ".png")
        draw_sites(plot, features, sites, (before, after), (shares[0], shares[1]))
    found = {"site_share_before": float(shares[0].mean()), "site_share_after": float(shares[1].mean())}
    return found | ({"plot": str(plot)} if plot else {})


def _share_words(shares: dict[str, Any]) -> str:
    return (
        f"Variance between sites, mean of features: {100 * shares['site_share_before']:.1f} % before, "
        f"{100 * shares['site_share_after']:.1f} % after"
    )


# ------------------------------------------------------------------------------------------------------------ images


def learn(images: Sequence[Path], *, out: Path) -> Result:
    """Learn a standard scale of intensities from images of one kind."""
    from ..imaging.guarded import Guard
    from ..imaging.intensity import learn_scale, write_scale
    from ..imaging.single_image import read_image

    _ending("--out", out, ".json")
    with Guard() as guard:
        scale = learn_scale([guard.read("an image", read_image, path, paths=[path]).values for path in images])
    write_scale(out, scale)
    return Result(
        {"scale": str(out), "images": scale.images, "landmarks": list(scale.landmarks)},
        f"{out}: standard scale of {scale.images} images",
    )


def image(
    path: Path,
    *,
    out: Path,
    steps: Sequence[str],
    reference: Path | None = None,
    roi: str | None = None,
    key: Path | None = None,
    certificate: Path | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Harmonise a DICOM image; the result is a DICOM object that says it is synthetic."""
    from ..imaging.guarded import Guard
    from ..imaging.harmonised_object import write_harmonised
    from ..imaging.harmonisers import HARMONISERS, harmonise
    from ..imaging.intensity import Intensities
    from ..imaging.single_image import read_image, read_mask
    from ..imaging.source_images import read_source_images
    from .signing import sign

    if not steps:
        from ..core.registry import names

        raise ConfigurationRejected(
            "no step", "at least one of " + ", ".join(names(HARMONISERS)), "name them with --step, in their order"
        )
    if dry_run:
        return Result(
            {"dry_run": True, "would_write": [HARMONISED], "steps": list(steps)},
            f"Would write {out / HARMONISED} after {', '.join(steps)}.",
        )
    tell = progress or (lambda what, done: None)
    tell("reading", 0.0)
    with Guard() as guard:
        source = guard.read("the image", read_image, path, paths=[path])
        tissue = None
        if reference is not None:
            drawn = partial(read_mask, reference, source.grid, roi=roi)
            tissue = guard.read("the mask", drawn, paths=[reference])
    tell("harmonising", 0.2)
    made = harmonise(Intensities(source.grid, source.values, tissue), steps)
    tell("writing", 0.9)
    headers = read_source_images(path).instances(source.sources) if source.sources else ()
    with folder_written_whole(out) as beside:
        write_harmonised(beside / HARMONISED, made, headers, source.digest)
        signature = sign(beside / HARMONISED, key, certificate)
        write_json(beside / "harmonised.json", _account(made, source.digest, signature))
    written = [HARMONISED, "harmonised.json", *(["harmonised.signature.json"] if signature == "beside" else [])]
    content = {"folder": str(out), "files": written, "steps": list(made.steps), "source_sha256": source.digest}
    return Result(content, f"{out / HARMONISED}: {', '.join(made.steps)}; synthetic, never for Ktrans or ADC")


def _account(made: Intensities, digest: str, signature: str | None) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "steps": list(made.steps),
        "source_sha256": digest,
        "synthetic": True,
        "never_for": ["ktrans", "adc"],
        "signed": signature is not None,
        "signature": signature,
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "SimpleITK")},
    }
