"""The verb ``import`` as a Python call: subjects, samples and events from outside into the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Result
from .options import named_values

if TYPE_CHECKING:
    from ..linkage.importing import Imported
    from ..linkage.vault import Vault


def import_records(
    file: Path, *, source: str, store: Path, site: str = "site1", options: Sequence[str] = (), dry_run: bool = False
) -> Result:
    """Read a file of a standard, or of another source, into the store; a dry run reads it and enters nothing."""
    from ..linkage.importers import importer, take
    from ..linkage.store import Store

    importer(source)
    stated = named_values(options)
    opened = Store.open(store, create=True)
    done = take(opened, file, name=source, vault=_vault(dry_run=dry_run), site=site, options=stated, dry_run=dry_run)
    return Result(_content(done, dry_run=dry_run), "\n".join(_words(done, dry_run=dry_run)))


def _vault(*, dry_run: bool) -> Vault:
    """The user's vault; a dry run makes none where there is none."""
    from ..linkage.vault import Vault, default_folder

    if dry_run and not (default_folder() / "project.key").exists():
        return Vault.for_reference_patient()
    return Vault.open()


def _content(done: Imported, *, dry_run: bool) -> dict[str, Any]:
    content = {
        "standard": done.standard,
        "version": done.version,
        "subjects": list(done.subjects),
        "entered": dict(done.entered),
        "gaps": [asdict(gap) for gap in done.gaps],
    }
    return {"dry_run": True, **content} if dry_run else content


def _words(done: Imported, *, dry_run: bool) -> list[str]:
    rows = ", ".join(f"{count} {table}" for table, count in done.entered.items()) or "nothing that is new"
    words = [f"{'Would enter' if dry_run else 'Entered'} from {done.standard} {done.version}: {rows}"]
    words += [f"subject {key}" for key in done.subjects]
    if done.gaps:
        words += ["", "Not understood or not taken:"]
        words += [f"  {gap.path:<32} {gap.n:>6}  {gap.reason}" for gap in done.gaps]
    return words
