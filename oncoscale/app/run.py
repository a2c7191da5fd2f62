"""``oncoscale forecast``: from a stored study, with its subject's consent, to a recorded forecast and its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..agents.engine import engine
from ..core.errors import ConfigurationRejected, ConsentDenied, OncoscaleError
from ..core.files import folder_written_whole, write_text
from ..imaging.diffusion_tensor import read_tensors
from ..imaging.guarded import read_guarded
from ..imaging.quantify import Quantified, QuantifySettings
from ..imaging.segmentation import check_tumour
from ..imaging.study import ImagingStudy
from ..imaging.visit_regions import drawn_tumour, with_all_regions, with_tumour
from ..linkage.consent import Decision, consent_on_record, denied, objection, require, still_permitted
from ..linkage.ingest import Visit, find_visit, load_study
from ..linkage.record import (
    Content,
    Prediction,
    Record,
    Recorded,
    input_file,
    inputs_of_study,
    record_run,
    record_stop,
)
from ..linkage.reviewing import name_store
from ..linkage.store import Store, now
from ..meshing.renewed import present_regions
from ..sim.anatomy import ALWAYS, refuse_unknown
from ..sim.case import Case
from ..sim.equilibrium import words_of
from ..sim.forecast import Forecast
from ..sim.forecasting import forecast as simulate
from ..sim.given_mesh import outlined
from ..sim.keeping import KeptForecast
from ..sim.preparing import prepare
from ..sim.settings import ForecastSettings
from ..sim.simulation import Progress
from ..sim.treatment import Treatment, read_treatment
from ..sim.tumour_type import TumourType, tumour_type
from ..sim.workload import Workload
from .background import background
from .commands import new_folder, quantified
from .console import Result, RunLog, Session, part_of
from .contours import write_dicom_contours
from .meshing_tumour import GivenMesh, given_mesh
from .report import Provenance, millilitres, report
from .run_folder import contour_of, read_run, write_run

QUANTIFY, SIMULATE = 0.25, 0.93
"""Shares of the progress bar: reading and maps end at the first, the forecast at the second."""


@dataclass(frozen=True)
class Request:
    """Everything that determines one forecast.

    visits  later visits whose measured volumes are shown beside it
    mask    a tumour that replaces the study's own
    roi     its region in the mask, or without a mask in the study, by name
    tensor  diffusion tensors, along which cells of a tumour without a border wander
    mesh    tetrahedra in place of those made from the segmentation
    """

    visit: Visit
    disease: TumourType
    days: float
    treatment: Treatment | None
    settings: ForecastSettings
    quantifying: QuantifySettings
    visits: tuple[Visit, ...]
    mask: Path | None
    pieces: str
    roi: str | None = None
    tensor: Path | None = None
    mesh: GivenMesh | None = None

    def parameters(self) -> dict[str, Any]:
        """The resolved configuration, ready for JSON: part of the run's identity."""
        return {
            "tumour": self.disease.name,
            "days": self.days,
            "treatment": self.treatment.as_table() if self.treatment else None,
            "settings": self.settings.model_dump(mode="json"),
            "quantify": _without_paths(asdict(self.quantifying)),
            "pieces": self.pieces,
            **({} if self.roi is None else {"roi": self.roi}),
            **({} if self.mesh is None else {"mesh": self.mesh.parameters()}),
        }

    def quantified(self, images: ImagingStudy, tell: Progress) -> Quantified:
        """The maps of the study's images, the given tensors, and the tumour with all regions that the visit draws.

        Of a mesh that the user gives the regions are its own, and the tumour where nobody drew one.
        """
        tensors = None
        if self.tensor is not None:
            tensors = read_guarded("the diffusion tensor", read_tensors, self.tensor, paths=[self.tensor])
        images = self.named(images)
        if not self.mask:
            there = [name for image in images.labels for name in image.names.values()]
            drawn = present_regions(self.mesh.tetrahedra) if self.mesh else there
            refuse_unknown(self.disease, self.settings, (*ALWAYS, *drawn))
        maps = quantified(images, self.quantifying, self.mask, self.pieces, tell, self.roi if self.mask else None)
        maps = replace(maps, tensor=tensors)
        return outlined(maps, self.mesh.tetrahedra) if self.mesh else self._with_regions(maps, images)

    def named(self, images: ImagingStudy) -> ImagingStudy:
        """A visit whose tumour is the region that the user names, unless a mask replaces it."""
        return images if self.roi is None or self.mask else with_tumour(images, self.roi)

    def _with_regions(self, maps: Quantified, images: ImagingStudy) -> Quantified:
        """The maps whose tumour's label image holds what the visit's others draw beside it."""
        if maps.tumour is None:
            return maps
        own = None if self.mask else drawn_tumour(images.labels)
        tumour, found = with_all_regions(maps.tumour, [image for image in images.labels if image is not own])
        return replace(maps, tumour=tumour, findings=(*maps.findings, *found))

    def case(self, images: ImagingStudy, maps: Quantified) -> Case:
        """What the forecast is made of, once the images have become maps."""
        return Case(
            maps,
            self.disease,
            self.days,
            self.treatment,
            self.settings,
            mesh=self.mesh.tetrahedra if self.mesh else None,
            body_part=images.body_part,
            species=images.species,
        )


def forecast(
    study: str,
    *,
    store: Path,
    tumour: str,
    days: float,
    out: Path,
    treatment: Path | None = None,
    settings: ForecastSettings,
    quantifying: QuantifySettings,
    mask: Path | None = None,
    roi: str | None = None,
    tensor: Path | None = None,
    mesh: Path | None = None,
    regions: Sequence[str] = (),
    pieces: str = "refuse",
    visits: Sequence[str] = (),
    checkpoint: Path | None = None,
    checkpoint_every: int = 24,
    dry_run: bool = False,
    session: Session,
) -> Result:
    """Forecast a stored study's tumour into a new folder, and record the run in the store.

    mesh              in place of one made from the segmentation
    regions           names of its regions, ``["7=tumour"]``
    checkpoint        folder in which the run is kept while it is made (None: NAME.kept beside ``out``)
    checkpoint_every  h of the cells between two keepings of a colony; 0 keeps nothing
    """
    new_folder(out)
    opened = Store.open(store, read_only=dry_run)
    visit = find_visit(opened, study)
    request = Request(
        visit,
        tumour_type(tumour),
        days,
        read_treatment(treatment) if treatment else None,
        settings,
        quantifying,
        later_visits(opened, visit, visits),
        mask,
        pieces,
        roi,
        tensor,
        given_mesh(mesh, regions),
    )
    if dry_run:
        return planned(opened, request, out, session)
    permit = require(opened, visit.subject, "run")
    record = record_of(opened, request, session.threads)
    kept = None
    if checkpoint_every:
        kept = KeptForecast(checkpoint or kept_beside(out), record.run, checkpoint_every, session.say)
    done = Run(opened, request, permit, record, session, kept).into(out)
    return result_of(done, out)


def kept_beside(out: Path) -> Path:
    """Where a run is kept while it is made, unless the user says otherwise."""
    return out.with_name(f"{out.name}.kept")


def later_visits(store: Store, visit: Visit, names: Sequence[str]) -> tuple[Visit, ...]:
    """The named visits, by day. Raises ConfigurationRejected for one of another subject or an earlier day."""
    found = sorted((find_visit(store, name) for name in names), key=lambda one: (one.day, one.study))
    for one in found:
        if one.subject != visit.subject:
            raise ConfigurationRejected(
                f"--visit {one.study} belongs to another subject", "a visit of the same subject", "leave it out"
            )
        if one.day <= visit.day:
            raise ConfigurationRejected(
                f"--visit {one.study} is of day {one.day}, the images of day {visit.day}",
                "a later visit",
                "leave it out",
            )
    return tuple(found)


def planned(store: Store, request: Request, out: Path, session: Session) -> Result:
    """What a run would do, without doing or writing it; how much work, if consent permits to look at the images."""
    consent = consent_on_record(store, request.visit.subject)
    reason = "missing" if consent is None else objection(consent, "HRESCH", ("imaging", "simulation"))
    work = None if reason else work_ahead(store, request, session)
    content = {
        "dry_run": True,
        "subject": request.visit.subject,
        "study": request.visit.study,
        "permitted": not reason,
        "reason": reason,
        "parameters": request.parameters(),
        "engine": engine(request.settings.engine).name,
        "plan": None if work is None else work.content(),
    }
    words = (
        f"Would forecast {request.visit.study} over {request.days:g} days with {request.disease.name} into {out.name}; "
        + (f"but consent: {reason}." if reason else "consent permits it.")
    )
    return Result(content, words if work is None else f"{words}\n{work.words()}")


def work_ahead(store: Store, request: Request, session: Session) -> Workload:
    """The work of a forecast, from the study's own maps and mesh; no cell lives for it."""
    images, _ = load_study(store, request.visit.study, progress=part_of(session.progress, 0.0, 0.2))
    case = request.case(images, request.quantified(images, part_of(session.progress, 0.2, 0.9)))
    ready = prepare(case, threads=session.threads, tell=part_of(session.progress, 0.9, 1.0))
    return ready.workload(session.threads)


def record_of(store: Store, request: Request, threads: int | None) -> Record:
    """The record of a run before it has outputs; its identity is settled already."""
    inputs: list[Content] = []
    for visit in (request.visit, *request.visits):
        inputs += inputs_of_study(store, visit.study)
    asked = request.quantifying
    stated = {
        "mask": request.mask,
        "mesh": request.mesh.path if request.mesh else None,
        "tensor": request.tensor,
        "aif": asked.aif,
        "aif-mask": asked.aif_mask,
        "t1": asked.t1,
    }
    inputs += [input_file(port, Path(str(path))) for port, path in stated.items() if path and Path(str(path)).is_file()]
    return Record(
        kind="forecast",
        parameters=request.parameters(),
        inputs=tuple(inputs),
        seed=request.settings.seed,
        engine=engine(request.settings.engine).name,
        threads=threads or len(os.sched_getaffinity(0)),
        subject=request.visit.subject,
        study=request.visit.study,
    )


def _without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that belong to a run's identity: no threads, and files by their name (their hashes are inputs)."""
    kept = {key: value for key, value in settings.items() if key != "threads"}
    return {key: Path(value).name if isinstance(value, str) else value for key, value in kept.items()}


@dataclass(frozen=True)
class Finished:
    """A run that is done: what it says and where it stands in the store."""

    forecast: Forecast
    record: Record
    recorded: Recorded


@dataclass(frozen=True)
class Run:
    """One attempt at a forecast."""

    store: Store
    request: Request
    permit: Decision
    record: Record
    session: Session
    kept: KeptForecast | None = None
    started: str = field(default_factory=now)

    def into(self, out: Path) -> Finished:
        """Compute, write the folder whole, record it; a failure is recorded too, and leaves no folder.

        What is kept on the way stays only after a failure that the same command may mend.
        """
        try:
            with folder_written_whole(out) as folder, self._logged(folder):
                made = self._compute(folder)
                write_text(folder / "report.html", self._page(folder))
                self.session.progress("record", 0.97)
                record = replace(self.record, recipe=made.recipe)
                recorded = record_run(
                    self.store, record, folder, permit=self.permit, predictions=predictions(made), started=self.started
                )
                name_store(folder, self.store, out)
        except BaseException as error:
            self._stopped(error)
            self._tell_of_kept(error)
            raise
        if self.kept:
            self.kept.remove()
        return Finished(made, record, recorded)

    def _tell_of_kept(self, error: BaseException) -> None:
        """Say where the finished part is; without consent nothing may be kept."""
        if self.kept is None:
            return
        if isinstance(error, ConsentDenied):
            self.kept.remove()
        elif self.kept.is_begun():
            self.session.say(
                f"What was finished is kept in {self.kept.folder.name}: the same command goes on from there. "
                "Remove that folder to give the run up."
            )

    def _compute(self, folder: Path) -> Forecast:
        images, _ = load_study(self.store, self.request.visit.study, progress=part_of(self._tell(), 0.0, 0.05))
        maps = self.request.quantified(images, part_of(self._tell(), 0.05, QUANTIFY))
        made = simulate(
            self.request.case(images, maps),
            measured=self._measured(),
            progress=part_of(self._tell(), QUANTIFY, SIMULATE),
            threads=self.session.threads,
            announce=self._announce,
            kept=self.kept,
        )
        self._account_for(made)
        self.session.progress("write results", SIMULATE)
        image = background(images, maps.tumour, tuple(maps.maps.values())) if maps.tumour else None
        write_run(folder, made, maps, image, self._provenance())
        self._write_dicom(folder, made, maps, images)
        return made

    def _announce(self, work: Workload) -> None:
        """Tell what lies ahead before the first cell lives."""
        self.session.say(work.words())
        if self.session.log:
            self.session.log.write("plan", **work.content())

    def _account_for(self, made: Forecast) -> None:
        """How each macro step found its balance, to the log; increments that had to be halved are told."""
        for step in made.steps:
            days = f"day {step.start_day:g} to {step.end_day:g}"
            history = step.mechanics.get("history", ())
            if history and self.session.log:
                self.session.log.write("step", days=days, balance=words_of(history))
            if cuts := [cut for one in history for cut in one["cuts"]]:
                self.session.say(f"{days}: increments of growth were halved {len(cuts)} time(s): {cuts[-1]}.")

    def _page(self, folder: Path) -> str:
        """The report, drawn from the files that were just written: what it shows is what they hold."""
        self.session.progress("report", 0.95)
        run = read_run(folder)
        return report(run.forecast, run.quantified, run.background, run.provenance)

    def _write_dicom(self, folder: Path, made: Forecast, maps: Quantified, images: ImagingStudy) -> None:
        if maps.tumour is None:
            return
        spread = self.request.disease.spread
        contours = [(state.day, contour_of(state, maps.tumour, spread)) for state in made.states]
        home = self.store.study_folder(self.request.visit.study) / "images"
        reason = write_dicom_contours(folder / "contours", contours, images, home, self.record.run)
        if reason:
            self.session.say(f"No DICOM contours: {reason}. The NIfTI contours are complete.")

    def _measured(self) -> tuple[tuple[float, float], ...]:
        """(day, mL) of the later visits."""
        rows = []
        for visit in self.request.visits:
            images = self.request.named(load_study(self.store, visit.study)[0])
            rows.append((float(visit.day - self.request.visit.day), measured_volume(images, self.request.quantifying)))
        return tuple(rows)

    def _provenance(self) -> Provenance:
        return Provenance(
            subject=self.request.visit.subject,
            study=self.request.visit.study,
            run=self.record.run,
            version=self.record.software.version,
            decision=f"{self.permit.outcome} ({self.permit.purpose}, {', '.join(self.permit.categories)})",
            inputs=tuple(self.record.input_hashes),
            study_day=self.request.visit.day,
        )

    def _tell(self) -> Callable[[str, float], None]:
        """Progress that asks for the consent again whenever another part of the run begins."""
        part = ""

        def tell(what: str, done: float) -> None:
            nonlocal part
            if what != part:
                part = what
                self._still_permitted()
            self.session.progress(what, done)

        return tell

    def _still_permitted(self) -> None:
        """Stop, on record, as soon as the consent does not hold any more."""
        if not still_permitted(self.store, self.permit):
            record_stop(self.store, self.record, self.permit, "stopped-consent", started=self.started)
            raise denied("withdrawn", "run")

    @contextmanager
    def _logged(self, folder: Path) -> Iterator[None]:
        """The run's log, JSON lines, open while the block runs."""
        with open(folder / "run.jsonl", "w", encoding="utf-8", buffering=1) as handle:
            self.session.log = RunLog(handle)
            self.session.log.write(
                "start", run=self.record.run, study=self.request.visit.study, engine=self.record.engine
            )
            try:
                yield
                self.session.log.write("end", run=self.record.run)
            finally:
                self.session.log = None

    def _stopped(self, error: BaseException) -> None:
        """Record an attempt that failed; the first error counts, so a second one here is not raised."""
        if isinstance(error, ConsentDenied):
            return  # on record already
        status: Any = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
        kind = error.kind if isinstance(error, OncoscaleError) else type(error).__name__
        try:
            record_stop(self.store, self.record, self.permit, status, failure={"kind": kind}, started=self.started)
        except Exception:  # whatever the store says now, the error that ended the run is raised by the caller
            self.session.say("The failed attempt could not be recorded in the store.")


def measured_volume(images: ImagingStudy, settings: QuantifySettings) -> float:
    """mL of the tumour at a visit: from its segmentation, else from the volume that enhances.

    A baseline or input function that was stated belongs to the images that the forecast starts from.
    """
    if labels := drawn_tumour(images.labels):
        return check_tumour(labels, pieces="all")[0].volume("tumour")
    own = replace(settings, dce_model="semi", aif="parker", aif_mask=None, baseline=None)
    made = quantified(images, own, None, "all", lambda what, done: None)
    if made.tumour is None:
        raise ConfigurationRejected(
            "a later visit has no tumour that can be measured", "a segmentation", "leave it out"
        )
    return made.tumour.volume("tumour")


def predictions(made: Forecast) -> list[Prediction]:
    """The tumour's volume on every day after the first."""
    return [
        Prediction(
            "tumour-volume",
            "predicted tumour volume",
            round(state.day),
            float(made.volumes[0, place]),
            "mL",
            float(made.interval[place, 0]),
            float(made.interval[place, 1]),
            made.level,
        )
        for place, state in enumerate(made.states)
        if state.day > 0
    ]


def weightiest(made: Forecast) -> int | None:
    """The chosen element that stands for most of the tumour: a good one to trace."""
    chosen = made.steps[0].representatives if made.steps else ()
    return max(chosen, key=lambda one: one.weight).element if chosen else None


def result_of(done: Finished, out: Path) -> Result:
    """What the command answers."""
    made, recorded = done.forecast, done.recorded
    content: Mapping[str, Any] = {
        "run": recorded.run,
        "attempt": recorded.attempt,
        "subject": done.record.subject,
        "study": done.record.study,
        "folder": str(out),
        "report": str(out / "report.html"),
        "element": weightiest(made),
        "days": made.days.tolist(),
        "volume_ml": made.volumes[0].tolist(),
        "interval_ml": made.interval.tolist(),
        "level": made.level,
        "sampling": [sampling.content() for sampling in made.sampling],
        "statements": list(made.statements),
        "differs": list(recorded.differs),
    }
    first, last = made.volumes[0, 0], made.volumes[0, -1]
    low, high = made.interval[-1]
    words = [
        *(statement for statement in made.statements if "not a prognosis" in statement),
        f"tumour {millilitres(first)} mL now, {millilitres(last)} mL on day {made.days[-1]:g} "
        f"({made.level:.0%} interval {millilitres(low)} to {millilitres(high)})",
        *(sampling.words() for sampling in made.sampling[:1]),
        *([f"Outputs differ from the last attempt: {', '.join(recorded.differs)}"] if recorded.differs else []),
        f"run {recorded.run}, attempt {recorded.attempt}",
        f"{out / 'report.html'}",
    ]
    return Result(content, "\n".join(words))
