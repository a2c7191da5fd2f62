"""``oncoscale demo``: the whole chain on the digital reference patient, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.files import write_text
from .commands import new_folder
from .console import Result, Session, part_of

DAYS = 28.0
TUMOUR = "neuroblastoma"
SITE, LOCAL_ID = "reference", "reference-patient"
CONSENT = """\
# The digital reference patient is nobody; this is what a consent file looks like.
status = "active"
purposes = ["HRESCH"]
categories = ["imaging", "simulation"]
"""


@dataclass(frozen=True)
class Effort:
    """How much work a demo does.

    elements, cells, members  see sim.settings.ForecastSettings
    """

    elements: int
    cells: int
    members: int


FULL = Effort(elements=20, cells=600, members=3)
QUICK = Effort(elements=12, cells=200, members=3)


def demo(out: Path, *, quick: bool = False, seed: int = 1, dry_run: bool = False, session: Session) -> Result:
    """Phantom, consent, ingest of two visits, forecast with chemotherapy, report; all below ``out``.

    The subject is the reference patient, so its pseudonym comes from a published key and the user's vault is not
    touched. The second visit's measured volume is shown beside the forecast, which never uses it.
    """
    new_folder(out)
    if dry_run:
        steps = ["phantom", "consent", "ingest visit 1", "ingest visit 2", f"forecast of {DAYS:g} days", "report"]
        return Result({"dry_run": True, "would_do": steps}, f"Would make {out.name}: " + ", ".join(steps) + ".")
    from ..imaging.phantom import write_phantom
    from ..sim.treatments.chemotherapy import RAPID_COJEC

    tell = session.progress
    write_phantom(out / "patient", tumour=TUMOUR, seed=seed, quick=quick, progress=part_of(tell, 0.0, 0.12))
    write_text(out / "consent.toml", CONSENT)
    write_text(out / "cojec.toml", RAPID_COJEC)
    studies = _ingest_visits(out, session)
    done = _forecast(out, studies, FULL if not quick else QUICK, seed, session)
    words = [
        f"The reference patient, its store and the run are in {out}.",
        done.words.rsplit("\n", 1)[0],
        *_next_lines(out, done.content),
        str(out / "run" / "report.html"),
    ]
    return Result({"folder": str(out), **done.content}, "\n".join(words))


def _ingest_visits(out: Path, session: Session) -> list[str]:
    """Both visits into the demo's store; their studies, first visit first."""
    from ..linkage.consent import read_consent
    from ..linkage.ingest import ingest
    from ..linkage.store import Store
    from ..linkage.vault import Vault

    store = Store.open(out / "store", create=True)
    studies = []
    for number in (1, 2):
        start = 0.12 + 0.06 * (number - 1)
        taken = ingest(
            out / "patient" / f"visit-{number}",
            store,
            LOCAL_ID,
            consent=read_consent(out / "consent.toml"),
            site=SITE,
            vault=Vault.for_reference_patient(),
            progress=part_of(session.progress, start, start + 0.06),
        )
        session.say(f"visit {number}: subject {taken.subject}, study {taken.study}, day {taken.day}")
        studies.append(taken.study)
    return studies


def _forecast(out: Path, studies: list[str], effort: Effort, seed: int, session: Session) -> Result:
    from ..imaging.phantom_physics import HAEMATOCRIT, RELAXIVITY
    from ..imaging.quantify import QuantifySettings
    from ..sim.settings import ForecastSettings
    from .run import forecast

    session.span = (0.24, 1.0)
    settings = ForecastSettings(elements=effort.elements, cells=effort.cells, members=effort.members, seed=seed)
    return forecast(
        studies[0],
        store=out / "store",
        tumour=TUMOUR,
        days=DAYS,
        out=out / "run",
        treatment=out / "cojec.toml",
        settings=settings,
        # The blood count and the agent of the reference child, as its clinic would know them.
        quantifying=QuantifySettings(haematocrit=HAEMATOCRIT.value, relaxivity=RELAXIVITY.value),
        visits=studies[1:],
        session=session,
    )


def _next_lines(out: Path, content: Any) -> list[str]:
    store = out / "store"
    return [
        "Next: open the report below, or",
        f"  oncoscale show {content['subject']} --store {store}",
        f"  oncoscale trace {out / 'run'} --element {content['element']}",
        "The report:",
    ]
