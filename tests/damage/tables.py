"""Damaged tables and sidecars of data sets: CSV, BIDS (participants, sessions, scans), nifti4d, ACDC."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from damage import LONGEST, Damaged, Expected
from helpers.files import ball, write_image
from longigen import Dataset, Finding, LongigenWarning
from longigen_acdc import ACDCDataset
from longigen_bids import BIDSDataset
from longigen_csv import CSVDataset
from longigen_nifti4d import NIfTI4DDataset

IMAGE = ball((4, 4, 4), 0.5)
SERIES = np.stack([IMAGE] * 3, axis=-1)

NO_NUMBERS = (
    *("nan", "NaN", "inf", "-inf", "infinity", "1e309", "-1e999", "1,5", "1.5.2", "1_0", "0x10", "--1", "1e", "e5"),
    *(
        "٣",
        "１",
        "²",
        "½",
        "1 0",
        "1h",
        "one",
        "2020-01-31",
        "31.1.2020",
        "1/2",
        "",
        "n/a",
        "NA",
        "None",
        "#REF!",
        "TRUE",
    ),
    *("\0", "1\0", "1\x1b[2J", "\u202e1", "\ufeff1", "\u200b1", "9" * 400, "1;2", "'1", '""', "(1)", "1%", "1.000,5"),
)
"""Texts that stand for no finite number."""
TEXTS = (
    *(
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "~",
        "-",
        "n/a",
        "x" * 200,
        "x" * 5000,
        "x" * 200_000,
        "\0",
        "\x1b[2J",
        "\u202e",
        "é",
        "日本",
    ),
    *("a\u2028b", '"', '""', '"a', 'a"b', "a\tb", "a,b", "a;b", "#", "=1+1", "CON", " ", "\u00a0", "\ud7ff", "a|b"),
)


@dataclass(frozen=True)
class Rows:
    """The visits that were read, and whether anything was said of others.

    Two are equal if their visits are; if something was said, those that were read may also be a part of the others.
    """

    visits: Mapping[tuple[str, float], Mapping[str, Any]]
    said: bool = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        if not self.said:
            return self.visits == other.visits
        return all(
            visit in other.visits and values.items() <= other.visits[visit].items()
            for visit, values in self.visits.items()
        )

    __hash__ = None  # type: ignore[assignment]


def rows_of(dataset: Dataset, said: bool = False) -> Rows:
    """Return the visits of a data set, with labels for codes of covariates."""
    findings: list[Finding] = []
    subjects = dataset.subjects(findings.append)
    levels: Mapping[str, Sequence[str]] = getattr(dataset, "levels", {})
    for text in [*map(str, findings), *(str(LongigenWarning(caution)) for caution in dataset.cautions)]:
        assert len(text) <= LONGEST, f"a sentence of {len(text)} characters: {text[:300]}"
    visits = {}
    for subject in subjects:
        for visit in subject.visits:
            values: dict[str, Any] = {
                name: levels[name][int(value)] if name in levels else value for name, value in visit.covariates.items()
            }
            visits[subject.id, visit.time] = {**values, "part": subject.part, "unit": dataset.time_unit}
    return Rows(visits, said or bool(findings or dataset.cautions))


@dataclass(frozen=True)
class Text:
    """A table as text: its file, its columns and cells, and which columns have numbers or must be there."""

    path: Path
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...]
    required: tuple[str, ...]

    @property
    def separator(self) -> str:
        return "\t" if self.path.suffix == ".tsv" else ","

    @property
    def lines(self) -> list[list[str]]:
        return [list(self.columns), *map(list, self.cells)]

    def write(self, lines: Sequence[Sequence[str]], newline: str = "\n", encoding: str = "utf-8") -> None:
        text = newline.join(self.separator.join(line) for line in lines) + newline
        self.path.write_bytes(text.encode(encoding, errors="surrogatepass"))


def csv(folder: Path) -> tuple[Path, list[Text]]:
    """Write a manifest of three subjects."""
    write_image(folder / "a.nii", IMAGE)
    columns = ("subject", "time", "path", "split", "age", "site")
    cells = tuple(
        (f"s{subject}", f"{visit}.5", "a.nii", ("train", "test", "")[subject], f"{60 + subject + visit}", site)
        for subject, site in enumerate(("Paris", "Orléans", "Rome"))
        for visit in range(3)
    )
    table = Text(folder / "visits.csv", columns, cells, ("time", "age"), ("subject", "time", "path"))
    table.write(table.lines)
    return table.path, [table]


def tsv(folder: Path) -> tuple[Path, list[Text]]:
    path, (table,) = csv(folder)
    path.unlink()
    table = replace(table, path=path.with_suffix(".tsv"))
    table.write(table.lines)
    return table.path, [table]


def bids(folder: Path, dated: bool = False) -> tuple[Path, list[Text]]:
    """Write a BIDS folder of two subjects, with times in sessions.tsv, or as dates in scans.tsv."""
    tables = [
        Text(
            folder / "participants.tsv",
            ("participant_id", "sex", "weight"),
            (("sub-1", "F", "60.5"), ("sub-2", "Mé", "72")),
            ("weight",),
            ("participant_id",),
        )
    ]
    for subject in ("sub-1", "sub-2"):
        for number in (1, 2, 3):
            session = f"ses-{number}"
            name = f"{subject}_{session}_T1w.nii"
            write_image(folder / subject / session / "anat" / name, IMAGE)
            if dated:
                path = folder / subject / session / f"{subject}_{session}_scans.tsv"
                cells = ((f"anat/{name}", f"2020-0{number}-01T10:00:00", "3"),)
                tables.append(Text(path, ("filename", "acq_time", "quality"), cells, (), ("filename", "acq_time")))
        if not dated:
            cells = tuple((f"ses-{number}", f"{60 + number}.25", str(20 + number)) for number in (1, 2, 3))
            path = folder / subject / f"{subject}_sessions.tsv"
            tables.append(Text(path, ("session_id", "age", "score"), cells, ("age", "score"), ("session_id", "age")))
    for table in tables:
        table.write(table.lines)
    return folder, tables


def dates(folder: Path) -> tuple[Path, list[Text]]:
    return bids(folder, dated=True)


def draw(random: np.random.Generator, folder: Path) -> Damaged:
    """Write a data set with a damaged table or sidecar into an empty folder."""
    if random.random() < 0.2:
        return _sidecar(random, folder)
    kind = (csv, csv, tsv, bids, bids, dates)[random.integers(6)]
    whole = _whole(kind)
    whole.write(folder)
    table = whole.tables[random.integers(len(whole.tables))]
    table = replace(table, path=folder / table.path)
    damage = DAMAGES[random.integers(len(DAMAGES))]
    expected, words = damage(table, random)
    if kind is dates and expected is not Expected.SAME:
        expected = Expected.CHANGED  # times are days since the first date that is left
    named = table.path.name if kind in (csv, tsv) else ""
    read = partial(_read, folder / whole.data)
    return Damaged(f"{table.path.name} {damage.__name__} {words}", expected, named, read, whole.truth)


@dataclass(frozen=True)
class Whole:
    """A data set without damage, in memory: its files, tables and visits; paths are relative to its folder."""

    files: Mapping[Path, bytes]
    data: Path
    tables: Sequence[Text]
    truth: Rows

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


@cache
def _whole(make: Callable[[Path], tuple[Path, list[Text]]]) -> Whole:
    """Return the data set that a function writes; it is written once, since that takes longer than reading it."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        data, tables = make(folder)
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        inside = [replace(table, path=table.path.relative_to(folder)) for table in tables]
        return Whole(files, data.relative_to(folder), inside, _read(data))


def _read(data: Path) -> Rows:
    kind = CSVDataset if data.is_file() or data.suffix in (".csv", ".tsv") else BIDSDataset
    kind = ACDCDataset if data.name == "patient001" else NIfTI4DDataset if (data / "s.nii").exists() else kind
    return rows_of(kind(path=data))


Outcome = tuple[Expected, str]


def untouched(table: Text, random: np.random.Generator) -> Outcome:
    return Expected.SAME, ""


def encoded(table: Text, random: np.random.Generator) -> Outcome:
    """Write it in another encoding; with a mark of the byte order it is legal."""
    encoding, expected = (
        ("utf-8-sig", Expected.SAME),
        ("utf-16", Expected.SAME),
        ("latin-1", Expected.EITHER),
        ("utf-16-le", Expected.EITHER),
        ("utf-16-be", Expected.EITHER),
        ("utf-32", Expected.EITHER),
        ("cp500", Expected.EITHER),
        ("utf-7", Expected.CHANGED),
    )[random.integers(8)]
    table.write(table.lines, encoding=encoding)
    return expected, encoding


def ended(table: Text, random: np.random.Generator) -> Outcome:
    """End its lines as other systems do, leave lines empty, or quote every cell: all legal."""
    lines = table.lines
    how = random.integers(5)
    if how == 3:
        lines = [line for line in lines for line in ([], line)][1:]
    if how == 4:
        lines = [[f'"{cell}"' for cell in line] for line in lines]
    table.write(lines, newline=("\r\n", "\r", "\r\n\r\n", "\n", "\n")[how])
    return Expected.SAME, str(how)


def separated(table: Text, random: np.random.Generator) -> Outcome:
    other = ("\t" if table.separator == "," else ",", ";", "|", " ", ", ", ";;", "\t\t")[random.integers(7)]
    text = "\n".join(other.join(line) for line in table.lines) + "\n"
    table.path.write_text(text, encoding="utf-8")
    return Expected.EITHER if other == ", " and table.separator == "," else Expected.REFUSED, repr(other)


def without_column(table: Text, random: np.random.Generator) -> Outcome:
    place = int(random.integers(len(table.columns)))
    name = table.columns[place]
    table.write([[cell for at, cell in enumerate(line) if at != place] for line in table.lines])
    return Expected.REFUSED if name in table.required else Expected.CHANGED, name


def renamed_column(table: Text, random: np.random.Generator) -> Outcome:
    """Rename a column: as another one, as nothing, in capitals, or otherwise."""
    place, other = (int(at) for at in random.choice(len(table.columns), 2, replace=False))
    name = table.columns[place]
    new = (table.columns[other], "", name.upper(), f"{name}\0", "x" * 100_000, "é")[random.integers(6)]
    lines = table.lines
    lines[0][place] = new
    table.write(lines)
    refused = new in ("", table.columns[other]) or (name in table.required and new != name.upper())
    return Expected.REFUSED if refused else Expected.CHANGED, f"{name} to {new[:20]!r}"


def no_number(table: Text, random: np.random.Generator) -> Outcome:
    """Write something else into a column of numbers."""
    column = (table.numbers or table.columns)[random.integers(len(table.numbers or table.columns))]
    text = NO_NUMBERS[random.integers(len(NO_NUMBERS))]
    expected = Expected.EITHER if table.numbers and column in table.required else Expected.CHANGED
    return _with_cell(table, random, column, text, expected)


def same_number(table: Text, random: np.random.Generator) -> Outcome:
    """Write a number in another way, which is legal."""
    place, at = table.columns.index(column := (table.numbers or ("",))[0]) if table.numbers else 0, 1
    lines = table.lines
    if table.numbers:
        cell = lines[at][place]
        lines[at][place] = (f"+{cell}", f"{cell}00" if "." in cell else f"{cell}.0", f" {cell} ", f"{cell}e0")[
            random.integers(4)
        ]
    table.write(lines)
    return Expected.SAME, f"{column if table.numbers else ''} = {lines[at][place]!r}"


def other_text(table: Text, random: np.random.Generator) -> Outcome:
    column = table.columns[random.integers(len(table.columns))]
    text = TEXTS[random.integers(len(TEXTS))]
    return _with_cell(table, random, column, text, Expected.CHANGED)


def quoted_line_break(table: Text, random: np.random.Generator) -> Outcome:
    column = table.columns[random.integers(len(table.columns))]
    return _with_cell(table, random, column, '"a\nb"', Expected.EITHER)


def _with_cell(
    table: Text, random: np.random.Generator, column: str, text: str, expected: Expected
) -> tuple[Expected, str]:
    lines = table.lines
    row = int(random.integers(1, len(lines)))
    lines[row][table.columns.index(column)] = text
    table.write(lines)
    return expected, f"line {row + 1} {column} = {text[:30]!r}"


def other_length(table: Text, random: np.random.Generator) -> Outcome:
    """Give a row a cell too many or too few."""
    lines = table.lines
    row = int(random.integers(1, len(lines)))
    if random.random() < 0.5:
        lines[row].append(("", "x")[random.integers(2)])
    else:
        lines[row].pop(int(random.integers(len(lines[row]))))
    table.write(lines)
    return Expected.EITHER, f"line {row + 1}"


def stray_quote(table: Text, random: np.random.Generator) -> Outcome:
    lines = table.lines
    row = int(random.integers(len(lines)))
    place = int(random.integers(len(table.columns)))
    cell = lines[row][place]
    lines[row][place] = (f'"{cell}', f'{cell}"', f'{cell[:1]}"{cell[1:]}', f"'{cell}'", f'"{cell}"x')[
        random.integers(5)
    ]
    table.write(lines)
    return Expected.CHANGED, f"line {row + 1} {lines[row][place]}"


def other_rows(table: Text, random: np.random.Generator) -> Outcome:
    """Repeat a row, leave them all out, leave the header out, or add empty ones (legal)."""
    lines = table.lines
    how = ("repeated", "no rows", "no header", "empty rows", "nothing")[random.integers(5)]
    expected = Expected.CHANGED
    if how == "repeated":
        lines.insert(1, lines[1])
        expected = Expected.EITHER
    elif how == "no rows":
        del lines[1:]
    elif how == "no header":
        del lines[0]
        expected = Expected.REFUSED
    elif how == "empty rows":
        lines += [[""] * len(table.columns)] * 3
        expected = Expected.SAME
    else:
        lines = []
        expected = Expected.EITHER if table.path.name == "participants.tsv" else Expected.REFUSED
    table.write(lines)
    return expected, how


def no_table(table: Text, random: np.random.Generator) -> Outcome:
    """Put something else in its place."""
    what = ("absent", "folder", "empty", "zeros", "binary", "image", "long line", "broken link")[random.integers(8)]
    table.path.unlink()
    if what == "folder":
        table.path.mkdir()
    elif what == "broken link":
        table.path.symlink_to("elsewhere")
    elif what != "absent":
        content = {
            "empty": b"",
            "zeros": bytes(5000),
            "binary": random.bytes(3000),
            "image": b"\x1f\x8b" + random.bytes(100),
            "long line": b"x" * 10**6,
        }
        table.path.write_bytes(content[what])
    optional = table.path.name == "participants.tsv" and what in ("absent", "empty")
    return Expected.CHANGED if optional else Expected.REFUSED, what


def cut(table: Text, random: np.random.Generator) -> Outcome:
    content = table.path.read_bytes()
    table.path.write_bytes(content[: int(random.integers(len(content)))])
    return Expected.CHANGED, ""


def flipped_bits(table: Text, random: np.random.Generator) -> Outcome:
    content = bytearray(table.path.read_bytes())
    for place in random.integers(0, len(content), size=random.integers(1, 6)):
        content[place] ^= 1 << int(random.integers(8))
    table.path.write_bytes(content)
    return Expected.CHANGED, ""


DAMAGES: tuple[Callable[[Text, np.random.Generator], Outcome], ...] = (
    untouched,
    encoded,
    encoded,
    ended,
    separated,
    without_column,
    renamed_column,
    no_number,
    no_number,
    no_number,
    same_number,
    other_text,
    other_text,
    other_text,
    quoted_line_break,
    other_length,
    stray_quote,
    other_rows,
    no_table,
    cut,
    flipped_bits,
    flipped_bits,
)


def _series(folder: Path, content: dict[str, Any]) -> tuple[Path, list[Text]]:
    write_image(folder / "s.nii", SERIES)
    (folder / "s.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder, []


def timed(folder: Path) -> tuple[Path, list[Text]]:
    return _series(folder, TIMES)


def repeated(folder: Path) -> tuple[Path, list[Text]]:
    return _series(folder, REPETITION)


def described(folder: Path) -> tuple[Path, list[Text]]:
    for name in ("participants.json", "sessions.json", "sub-1/sub-1_sessions.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(DESCRIPTION, ensure_ascii=False), encoding="utf-8")
    return bids(folder)


def patient(folder: Path) -> tuple[Path, list[Text]]:
    write_image(folder / "patient001" / "patient001_4d.nii", SERIES)
    (folder / "patient001" / "Info.cfg").write_text("".join(f"{key}: {value}\n" for key, value in INFO.items()))
    return folder / "patient001", []


TIMES: dict[str, Any] = {"times": [0.0, 1.5, 4.0], "time_unit": "days"}
REPETITION: dict[str, Any] = {"RepetitionTime": 2.5, "Manufacturer": "é"}
DESCRIPTION: dict[str, Any] = {"age": {"Units": "years", "Description": "é"}, "weight": {"Units": "kg"}}
INFO: dict[str, Any] = {"ED": 1, "ES": 3, "Group": "NOR", "Height": 170.5, "Weight": 60.0}
SIDECARS: tuple[tuple[Callable[[Path], tuple[Path, list[Text]]], str, dict[str, Any]], ...] = (
    (timed, "s.json", TIMES),
    (repeated, "s.json", REPETITION),
    (described, "participants.json", DESCRIPTION),
    (described, "sessions.json", DESCRIPTION),
    (described, "sub-1/sub-1_sessions.json", DESCRIPTION),
    (patient, "patient001/Info.cfg", INFO),
)


def _sidecar(random: np.random.Generator, folder: Path) -> Damaged:
    """Write a data set with a damaged sidecar: a JSON file, or ACDC's Info.cfg."""
    make, name, content = SIDECARS[random.integers(len(SIDECARS))]
    whole = _whole(make)
    whole.write(folder)
    path = folder / name
    damage, expected, raw = _damaged_json(path.read_text(encoding="utf-8"), content, random)
    path.unlink()
    if raw is None:
        path.mkdir()
    else:
        path.write_bytes(raw)
    if path.suffix == ".cfg":
        expected = Expected.CHANGED
    return Damaged(f"{name} {damage}", expected, "", partial(_read, folder / whole.data), whole.truth)


JSON_VALUES = (
    *("null", "true", '"x"', "[]", "{}", "-1", "0", "NaN", "1e999", "9" * 5000, '"\\ud800"', '"\\u0000"', "[[]]"),
)


def _damaged_json(
    text: str, content: Mapping[str, Any], random: np.random.Generator
) -> tuple[str, Expected, bytes | None]:
    key = list(content)[random.integers(len(content))]
    value = json.dumps(content[key], ensure_ascii=False)
    other = JSON_VALUES[random.integers(len(JSON_VALUES))]
    choices: tuple[tuple[str, Expected, bytes | None], ...] = (
        ("BOM", Expected.SAME, b"\xef\xbb\xbf" + text.encode()),
        ("CRLF and space", Expected.SAME, b"\r\n\t " + text.encode() + b"\r\n\n"),
        ("UTF-16", Expected.EITHER, text.encode("utf-16")),
        ("latin-1", Expected.EITHER, text.encode("latin-1")),
        ("cut", Expected.REFUSED, text.encode()[: random.integers(len(text))]),
        (f"{key} twice", Expected.REFUSED, f'{text[:-1]}, "{key}": {other}}}'.encode()),
        (f"{key} = {other[:20]}", Expected.CHANGED, text.replace(value, other).encode()),
        ("deep", Expected.REFUSED, b"[" * 100_000),
        ("deep object", Expected.REFUSED, b'{"a":' * 100_000),
        ("no object", Expected.REFUSED, b"[1, 2]"),
        ("folder", Expected.REFUSED, None),
        ("binary", Expected.REFUSED, random.bytes(500)),
        ("garbage behind", Expected.REFUSED, text.encode() + b"}"),
        ("empty", Expected.REFUSED, b""),
    )
    return choices[random.integers(len(choices))]
