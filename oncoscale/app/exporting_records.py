"""The verb ``export`` as a Python call: a metadata standard from the store, and what it could not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected, InputError
from .console import Result
from .options import named_values, yes_or_no

if TYPE_CHECKING:
    from ..linkage.exporting import Exported
    from ..linkage.vault import Vault


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported, as typed.

    name           run, folder of a run, subject, collection, file of keys, or ``all``
    predictions    yes, no, or None for what the standard has as default
    faces_handled  images of heads may leave although they were not defaced here
    options        NAME=VALUE, for a standard that asks the holder for more than the store knows
    """

    name: str
    standard: str
    out: Path
    predictions: str | None = None
    recipient: str = "self"
    purpose: str = "HRESCH"
    faces_handled: bool = False
    options: Sequence[str] = ()


def export(request: ExportRequest, *, store: Path | None, validate: bool = False) -> Result:
    """Export; with ``validate`` the code is 3 if the standard's own check found a fault.

    The head of the audit is signed afterwards, where this user has a vault and a role that may have it opened.
    """
    from ..linkage.exporting import export as write
    from ..linkage.standards import standard
    from ..linkage.store import Store

    standard(request.standard)
    name, where = run_and_store(request.name, store)
    opened = Store.open(where)
    vault, unsigned = vault_at_hand(opened.path)
    done = write(
        opened,
        name,
        request.out,
        standard_name=request.standard,
        recipient=request.recipient,
        purpose=request.purpose,
        predictions=yes_or_no("--predictions", request.predictions),
        faces_handled=request.faces_handled,
        options=named_values(request.options),
        vault=vault,
    )
    return Result(_content(done, unsigned), "\n".join(_words(done, unsigned)), 3 if validate and done.violations else 0)


def vault_at_hand(store: Path) -> tuple[Vault | None, str]:
    """(the vault that can sign, why there is none). None is made for the purpose."""
    from ..linkage.vault import Vault, default_folder

    if not (default_folder() / "project.key").exists():
        return None, "no vault is at hand"
    try:
        return Vault.open(store=store), ""
    except InputError as error:
        return None, error.found


def run_and_store(name: str, store: Path | None) -> tuple[str, Path]:
    """(what to export, the store it is in). The folder of a run stands for its run; in a store, for the store too.

    Raises ConfigurationRejected where no store is named and none can be told from the folder.
    """
    if (folder := Path(name)).is_dir():
        from ..linkage.record import find_run
        from ..linkage.store import store_around

        name = find_run(None, name).record.run
        store = store or store_around(folder)
    if store is None:
        raise ConfigurationRejected(
            "no store is named", "the store whose consents permit an export", "add --store STORE"
        )
    return name, store


def _content(done: Exported, unsigned: str) -> dict[str, Any]:
    return {
        "standard": done.standard,
        "version": done.version,
        "path": str(done.path),
        "sha256": done.sha256,
        "subjects": list(done.subjects),
        "left_out": [{"subject": key, "reason": reason} for key, reason in done.left_out],
        "gaps": [asdict(gap) for gap in done.gaps],
        "violations": [asdict(one) for one in done.violations],
        "signed_head": asdict(done.head) if done.head else None,
        "not_signed": unsigned,
    }


def _words(done: Exported, unsigned: str) -> list[str]:
    words = [f"{done.path}: {len(done.subjects)} subject(s) as {done.standard} {done.version}"]
    words += [f"left out   {key}: {reason}" for key, reason in done.left_out]
    if done.gaps:
        words += ["", f"Not expressed in {done.standard} (values lost):"]
        words += [f"  {gap.path:<32} {gap.n:>6}  {gap.reason}" for gap in done.gaps]
    words += ["", f"Faults by the standard's own check: {len(done.violations)}"]
    words += [f"  {one.rule}: {one.where}: {one.found}" for one in done.violations]
    if done.head is not None:
        words += ["", f"The audit's head is signed: entry {done.head.seq}. The vault keeps it; keep a copy elsewhere."]
    else:
        words += ["", f"The audit's head is not signed: {unsigned}. Have it signed: oncoscale audit sign STORE"]
    return [*words, "", "Pseudonymised data remain personal data (GDPR, art. 4(5))."]
