"""A BIDS folder with sessions as a data set, in which a visit is a session."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from longigen import (
    PARTS,
    Assigned,
    BadData,
    Dataset,
    Finding,
    LongigenError,
    OnBad,
    Subject,
    Visit,
    did_you_mean,
    is_missing,
    parse_regions,
    read_sidecar,
    refuse,
)
from longigen_bids.covariates import Covariates
from longigen_bids.labels import LabelMaps
from longigen_bids.layout import Image, Listing, choose_suffix, distinguishing_advice, list_images, select, spell
from longigen_bids.tables import Table, read_participants, read_table
from longigen_bids.times import (
    TIME,
    Column,
    by_preference,
    choose_column,
    declares_time,
    known_spelling,
    label_column,
    scans_column,
    session_columns,
    sessions_file,
    sidecar_column,
    stated_units,
    unit_of,
)

ELSEWHERE = ("acq_time", "AcquisitionDateTime")
"""Names of times outside of ``sub-*_sessions.tsv``."""


class BIDSDataset(Dataset):
    """A data set in the Brain Imaging Data Structure (BIDS) with sessions; a visit is one image of a session.

    **Times** are one column of ``sub-*/sub-*_sessions.tsv`` for all subjects. Of the following columns, the one that
    distinguishes the sessions of most subjects is used, and among equals the first:

    1. ``days``, or ``days_from_baseline`` and similar names (``since``, ``first_visit``);
    2. ``age``, unless all ages are whole numbers, since ages rounded to years are off by months;
    3. dates, as days since the subject's first session with a date: ``acq_time``, ``acq_date``, ``session_date``,
       ``scan_date``, ``visit_date``, ``examination_date``. Shifted dates are fine;
    4. ``weeks``, ``months``, ``years``, like ``days``;
    5. ``age`` in whole numbers;
    6. ``time``, if its JSON file states the unit; before all others, if ``sessions.json`` says of it ``"VisitTime":
       true``, as in data sets that `longigen prepare` writes.

    If no subject has any of them, the time is the image's ``acq_time`` in the session's ``*_scans.tsv`` (without a row
    of its own, as for derivatives, the earliest of its kind, or else of all, which is said), or else
    ``AcquisitionDateTime`` in the images' JSON sidecars, or else the date that every session has as its label, such as
    ``ses-20150924``. A ``participants.tsv`` with a row per session is read like ``sessions.tsv``. The unit is read from
    ``Units`` in the JSON file of the table (``sub-*_sessions.json``, or ``sessions.json`` and ``participants.json`` at
    the top); else it is years for an age, days for a date, and the unit in the name of the other columns.

    **Covariates** are the other columns of ``sessions.tsv`` and ``participants.tsv`` except ids and dates; ``age`` is a
    covariate even if it is the time. Text is encoded as the index among the column's labels in alphabetical order
    (`levels`); ``n/a`` is missing. A column ``split`` in ``participants.tsv`` (train, validation, test) assigns
    subjects to parts of the split.

    **Label maps** of regions are the ``*_dseg.nii.gz`` of a session, or its ``*_mask.nii.gz`` with a ``label-``, beside
    the image or in ``derivatives/*``. They belong to the image with the same entities and space; ``desc``, ``seg``,
    ``label``, ``atlas``, ``res`` and ``den`` do not count. The regions of a ``dseg`` are named by `regions`, or by the
    nearest ``*_dseg.tsv`` (columns ``index`` and ``name``); a mask's region is its ``label-``.

    Sessions without an image and subjects without any image are left out. Images outside sessions are not read, since
    they have no time.

    Args:
        path: the folder of the data set, which contains ``sub-*``.
        suffix: suffix of the images, such as ``T1w``; None uses the only suffix that is not a mask or segmentation.
            Several, as ``T1w,FLAIR``, are the channels of one image, in this order; a session may lack some of them.
        select: entities that an image must have in its name, such as ``desc-preproc`` or ``run-1``; ``space-`` (without
            a label) selects images without the entity, and ``run-1`` also the image of a session without runs. On the
            command line ``--set select=desc-preproc,space-``.
        datatype: the folder in a session that contains the images.
        derivatives: a folder in ``derivatives/``, such as ``fmriprep``, to read the images from; the tables are still
            those of `path`.
        time: the column of ``sessions.tsv`` to use as time, or ``acq_time`` of ``scans.tsv``, or
            ``AcquisitionDateTime``.
        time_unit: unit of that column, one of `longigen.TIME_UNITS`; it has precedence over the JSON file.
        labels: entities that label maps must have, such as ``desc-aseg`` or ``label-GM,label-WM``; ``mask`` for masks
            where there are ``dseg`` files too.
        labels_from: a folder in ``derivatives/`` to read label maps from; None looks beside the images and in all.
        regions: the regions of a ``dseg``, each as ``NAME=LABELS``: ``ventricles=4+43,hippocampus=17+53``.

    Raises:
        LongigenError: if there are no such images in sessions, their times cannot be found, or the unit of the times
            is unknown.
    """

    def __init__(
        self,
        *,
        path: Path,
        suffix: str | tuple[str, ...] | None = None,
        select: tuple[str, ...] = (),
        datatype: str = "anat",
        derivatives: str | None = None,
        time: str | None = None,
        time_unit: str | None = None,
        labels: tuple[str, ...] = (),
        labels_from: str | None = None,
        regions: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self._cautions: list[str] = []
        root = self.path if derivatives is None else self._pipeline(derivatives)
        if not root.is_dir():
            raise LongigenError(
                f"{root} is not a folder; give the folder of a BIDS data set, which contains sub-*/ses-*."
            )
        listing = list_images(root, datatype)
        suffixes = suffix.split(",") if isinstance(suffix, str) else suffix or ()
        suffixes = tuple(text.strip() for text in suffixes)
        if len(set(suffixes)) < len(suffixes):
            raise LongigenError(f"bids: suffix names one twice, {','.join(suffixes)}; name each channel once.")
        self._channels = suffixes if len(suffixes) > 1 else ()
        self._images = self._find_images(root, listing, suffixes, select, datatype)
        named = parse_regions(regions, "bids: regions")
        roots = dict.fromkeys((root, self.path, *self._pipelines().values()))
        roots = roots if labels_from is None else {self._pipeline(labels_from): None}
        listings = {place: listing if place == root else list_images(place, datatype) for place in roots}
        self._labels = LabelMaps(listings, datatype, self._images, labels, named)
        self._cautions += self._labels.cautions
        self._broken: dict[str, Finding] = {}
        self._sessions: dict[str, Table] = {}
        described: dict[Path, Mapping[str, Any]] = {}
        for subject in self._images:
            file = sessions_file(self.path, subject)
            try:
                described[file.with_suffix(".json")] = read_sidecar(file.with_suffix(".json"), subject)
                self._sessions[subject] = read_table(file, "session_id", subject, prefix="ses-")
            except BadData as error:
                self._broken[subject] = error.finding
        self._participants, of_sessions = read_participants(self.path / "participants.tsv")
        if of_sessions:
            self._cautions.append(
                "participants.tsv has a row per session; its columns are read as those of sub-*_sessions.tsv, where "
                "BIDS wants them."
            )
            self._sessions = {
                subject: table.over(of_sessions[subject]) if subject in of_sessions else table
                for subject, table in self._sessions.items()
            }
        self._described = described
        self._time = self._find_time(time)
        self._cautions += self._time.cautions
        stated = stated_units(self._time.name, self.path, described)
        self.time_unit = unit_of(self._time, stated, time_unit)
        others = {known_spelling(text) for text in stated.values()} - {self.time_unit}
        if time_unit is not None and others:
            self._cautions.append(
                f"The JSON files say that '{self._time.name}' is in {' and '.join(sorted(others))}; its numbers are "
                f"read as {self.time_unit}, as time_unit says, and not converted."
            )
        without = {"split", "HED"} | {name for name in (self._time.name,) if name.lower() != "age"}
        self._covariates = Covariates(self._participants, self._sessions, without)
        if self._time.whole_years and self.time_unit == "years":
            self._cautions.append("Times are ages in whole years, so they are off by up to a year.")
        self._cautions += [
            f"The column '{name}' has numbers, so text in it counts as missing: {', '.join(text[:5])}."
            for name, text in self._covariates.taken_as_missing.items()
        ]

    @classmethod
    def claims(cls, path: Path) -> bool:
        return (path / "dataset_description.json").is_file() or any(path.glob("sub-*/ses-*"))

    @property
    def cautions(self) -> Sequence[str]:
        return tuple(self._cautions)

    @property
    def levels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of each categorical covariate, in the order of their codes 0, 1, …"""
        return self._covariates.levels

    @property
    def regions(self) -> Mapping[int, str]:
        return self._labels.regions

    @property
    def covariate_units(self) -> Mapping[str, str]:
        stated = {
            name: set(stated_units(name, self.path, self._described).values()) for name in self._covariates.numeric
        }
        units = {name: known_spelling(next(iter(texts))) for name, texts in stated.items() if len(texts) == 1}
        return units | ({self._time.name: self.time_unit} if not self._time.dated else {})

    def subjects(self, bad: OnBad = refuse) -> Sequence[Subject]:
        subjects, findings = self._subjects_and_findings
        for finding in findings:
            bad(finding)
        return subjects

    @cached_property
    def _subjects_and_findings(self) -> tuple[Sequence[Subject], Sequence[Finding]]:
        """The subjects and visits that can be used, and the problems of the others."""
        subjects: list[Subject] = []
        findings: dict[Finding, None] = {}  # a missing table is listed once, and not for each session
        for name, sessions in self._images.items():
            visits: dict[float, tuple[str, Visit]] = {}
            try:
                part = self._part(name)
            except BadData as error:
                findings[error.finding] = None
                continue
            for session, images in sessions.items():
                try:
                    visit = self._visit(name, session, images)
                    if visit.time in visits:
                        raise self._duplicate(name, visits[visit.time][0], session, visit.time)
                    visits[visit.time] = session, visit
                except BadData as error:
                    findings[error.finding] = None
            if visits:
                subjects.append(Subject(name, tuple(visits[time][1] for time in sorted(visits)), part))
        return tuple(subjects), tuple(findings)

    def _visit(self, subject: str, session: str, images: Sequence[Image]) -> Visit:
        for image in images:
            if image.misnamed:
                problem = f"does not start with {subject}_{session}_, the subject and session of its folder"
                raise BadData(Finding("misnamed", str(image.path), problem, "rename or move it", subject))
        by_suffix: dict[str, list[Image]] = {}
        for image in images:
            by_suffix.setdefault(image.suffix, []).append(image)
        for alike in by_suffix.values():
            if len(alike) > 1:
                problem = f"holds {len(alike)} {alike[0].suffix} images ({', '.join(i.path.name for i in alike)})"
                advice = distinguishing_advice(alike)
                raise BadData(Finding("ambiguous", str(alike[0].path.parent), problem, advice, subject))
        time = self._time.time(subject, session)
        row = self._sessions[subject]
        if session in row.repeated:
            raise BadData(Finding("repeated-row", str(row.path), f"has several rows of {session}", "keep one", subject))
        covariates = self._covariates.of(subject, session)

        def visit(image: Image) -> Visit:
            labels = self._labels.reader(image, subject)
            return Visit.of_file(image.path, subject=subject, time=time, covariates=covariates, labels=labels)

        if not self._channels:
            return visit(images[0])
        found = {name: visit(*by_suffix[name]) if name in by_suffix else None for name in self._channels}
        return Visit.of_channels(found, subject=subject)

    def _part(self, subject: str) -> Assigned | None:
        """Return the part of the split that a subject is assigned to.

        Raises:
            BadData: if the subject's rows cannot be used.
        """
        if subject in self._broken:
            raise BadData(self._broken[subject])
        table = self._participants
        if subject in table.repeated:
            advice = "keep one row; values that change between sessions belong into sub-*_sessions.tsv"
            raise BadData(Finding("repeated-row", str(table.path), "has several rows of one subject", advice, subject))
        split = table.rows.get(subject, {}).get("split", "")
        if is_missing(split):
            return None
        if split.lower() not in PARTS:
            advice = "write train, validation or test"
            raise BadData(Finding("bad-split", str(table.path), f"has split {split!r}", advice, subject))
        return PARTS[split.lower()]

    def _duplicate(self, subject: str, first: str, second: str, time: float) -> BadData:
        source = str(self._time.file(subject, second))
        problem = f"has {first} and {second} at the same {self._time.name}, {time:g} {self.time_unit}"
        advice = "correct one of them, or choose another column with --set time="
        return BadData(Finding("duplicate-time", source, problem, advice, subject))

    def _find_images(
        self, root: Path, listing: Listing, suffixes: Sequence[str], entities: Sequence[str], datatype: str
    ) -> Mapping[str, Mapping[str, Sequence[Image]]]:
        """Return the images by subject and session, those of a session in the order of the suffixes."""
        where = f"{root}/sub-*/ses-*/{datatype}"
        if not listing.subjects:
            raise LongigenError(f"{root} holds no sub-*; {_suggest_folder(root)}")
        if not listing.images and listing.outside:
            raise LongigenError(
                f"{root} has {listing.outside} images in sub-*/{datatype} and none in a session (ses-*), so the data "
                "are not longitudinal; if they are, move the images of each visit into sub-*/ses-*."
            )
        if not listing.datatypes:
            raise LongigenError(
                f"{root} has no folder in any sub-*/ses-*; move the images into sessions, such as "
                f"sub-01/ses-1/{datatype}/sub-01_ses-1_T1w.nii.gz."
            )
        if not listing.images:
            known = spell(listing.datatypes)
            raise LongigenError(
                f"{where} holds no image; choose another folder with --set datatype=. Folders: {known}."
            )
        chosen = [choose_suffix(listing.images, suffix, where) for suffix in suffixes or [None]]
        images: list[Image] = []
        for suffix in chosen:
            candidates = [image for image in listing.images if image.suffix == suffix]
            selected = select(candidates, entities, where)
            before, after = (len({(image.subject, image.session) for image in each}) for each in (candidates, selected))
            if after < before:
                what = "sessions are left out" if len(chosen) == 1 else f"sessions are left without {suffix}"
                self._cautions.append(
                    f"{before - after} of {before} {what}, since none of their {suffix} images is selected by "
                    f"select={','.join(entities)}."
                )
            images += selected
        images.sort(key=lambda image: (image.subject, image.session))
        suffix = " or ".join(chosen)
        by_subject: dict[str, dict[str, list[Image]]] = {}
        for image in images:
            by_subject.setdefault(image.subject, {}).setdefault(image.session, []).append(image)
        if len(by_subject) < len(listing.subjects):
            self._cautions.append(
                f"{len(listing.subjects) - len(by_subject)} of {len(listing.subjects)} subjects are left out, since "
                f"they have no such {suffix} image in a session."
            )
        return by_subject

    def _pipelines(self) -> Mapping[str, Path]:
        """Return the folders in ``derivatives/`` by name."""
        folder = self.path / "derivatives"
        return {child.name: child for child in sorted(folder.iterdir()) if child.is_dir()} if folder.is_dir() else {}

    def _pipeline(self, name: str) -> Path:
        known = self._pipelines()
        if name not in known:
            raise LongigenError(
                f"{self.path / 'derivatives'} has no folder '{name}'.{did_you_mean(name, known)} "
                f"Folders: {', '.join(known) or 'none'}."
            )
        return known[name]

    def _find_time(self, chosen: str | None) -> Column:
        """Return the column of times: the chosen one, or the best one."""
        sessions = {subject: list(self._images[subject]) for subject in self._sessions}
        files = {
            (subject, session): self._images[subject][session][0].path
            for subject in sessions
            for session in sessions[subject]
        }
        columns = session_columns(self.path, self._sessions)
        with_unit = bool(stated_units(TIME, self.path, self._described))
        declared = with_unit and declares_time(self.path)
        broken = list(self._broken.values())
        sources: tuple[Callable[[], Sequence[Column]], ...] = (
            lambda: (
                by_preference(columns, time_has_unit=with_unit, time_is_declared=declared)
                if chosen is None
                else columns
            ),
            lambda: [scans_column(self.path, files)],
            lambda: [sidecar_column(files)],
            lambda: [label_column(self.path, files)],
        )
        for source in sources:
            candidates = [column for column in source() if chosen in (None, column.name)]
            best = choose_column(candidates, sessions)
            if best is not None:
                return best
            broken += [finding for column in candidates for finding in column.broken.values()]
        if broken:
            raise BadData(broken[0])
        names = [column.name for column in columns]
        existing = f"columns: {', '.join(names)}" if names else "there are no columns"
        if chosen is not None:
            cells = (cell for column in columns if column.name == chosen for cell in column.cells.values())
            written = next((f" Its cells, such as {cell!r}, are no times." for cell in cells), "")
            hint = written if chosen in (*names, *ELSEWHERE) else did_you_mean(chosen, (*names, *ELSEWHERE))
            raise LongigenError(
                f"{self.path}: no session has a time in '{chosen}'.{hint} "
                f"Choose a column of sub-*_sessions.tsv ({existing}), acq_time of *_scans.tsv, or AcquisitionDateTime."
            )
        advice = "write a column days_from_baseline or age into sub-*/sub-*_sessions.tsv, or name one with --set time="
        if self.path.parent.name == "derivatives":
            advice = f"give the data set itself as path ({self.path.parents[1]}) and derivatives={self.path.name}"
        raise LongigenError(
            f"{self.path} has no times of its sessions, neither in sub-*/sub-*_sessions.tsv ({existing}) nor as "
            f"acq_time in sub-*/ses-*/*_scans.tsv nor as AcquisitionDateTime in the images' JSON files; {advice}."
        )


def _suggest_folder(root: Path) -> str:
    """Return advice on where the data set may be, if not at `root`."""
    while root.name.startswith(("sub-", "ses-")):
        root = root.parent
        if any(root.glob("sub-*")):
            return f"give the data set's own folder, {root}."
    for child in sorted(root.iterdir()):
        if child.is_dir() and any(child.glob("sub-*")):
            return f"did you mean {child}?"
    return "give the folder of a BIDS data set."
