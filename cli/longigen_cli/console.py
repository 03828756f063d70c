"""Options that several commands share, and printing of lines, tables and JSON, as wide as the terminal is."""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from shlex import quote
from textwrap import wrap
from typing import Annotated, Any, Literal, Protocol, TextIO

import typer

from longigen.components.base import Parameter
from longigen.components.ranges import NoiseLevels
from longigen.errors import LongigenError, printable
from longigen_cli.completion import names_in


def require_quoted(words: Sequence[str]) -> None:
    """Raise a `LongigenError` if words that follow each other are one path, whose spaces were not quoted."""
    for start, end in combinations(range(len(words) + 1), 2):
        path = " ".join(words[start:end])
        if end - start > 1 and os.path.exists(path) and not os.path.exists(words[start]):
            raise LongigenError(f"'{path}' was given as {end - start} words, since it has spaces; write {quote(path)}.")


def trained(kind: str) -> Any:
    """Return the option of a command that trains a network of a kind, such as ``codec``: its name."""
    return typer.Option(
        f"--{kind}",
        help=f"Name of the {kind} to train, a network (see 'longigen list {kind}s').",
        autocompletion=names_in(f"{kind}s"),
    )


Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Data set: a name (see 'longigen list datasets'), a file or folder, or NAME:PATH; by default the data "
        "of the recipe or of the model's training.",
        autocompletion=names_in("datasets"),
    ),
]
TrueData = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Data set with the given and true visits: a name, a file or folder, or NAME:PATH; by default that of a "
        "run among the folders, or the one that the generated visits name if it needs no files.",
        autocompletion=names_in("datasets"),
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a hyperparameter, e.g. --set denoiser.width=32."),
]
TrainedData = Annotated[
    str,
    typer.Option(
        "--data",
        help="Data set to train on: a name (see 'longigen list datasets'), a file or folder, or NAME:PATH.",
        autocompletion=names_in("datasets"),
    ),
]
TrainedFolder = Annotated[Path, typer.Option("--out", help="Folder for the weights, new or empty.")]
Conditioner = Annotated[
    str | None,
    typer.Option(
        "--conditioner",
        help="Conditioner to use instead of the recipe's, e.g. sadm.",
        autocompletion=names_in("conditioners"),
    ),
]
Denoiser = Annotated[
    str | None,
    typer.Option(
        "--denoiser",
        help="Denoiser to use instead of the recipe's, e.g. unet3d.",
        autocompletion=names_in("denoisers"),
    ),
]
TrainedSampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="Sampler to use instead of the recipe's, e.g. continuous.",
        autocompletion=names_in("samplers"),
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        "--codec",
        metavar="NAME|FOLDER",
        help="Codec on whose codes the model works, e.g. haar, or a folder that 'longigen train-codec' wrote.",
        autocompletion=names_in("codecs"),
    ),
]
Size = Annotated[
    str | None,
    typer.Option("--size", help="One of the recipe's sizes, e.g. large; 'longigen info RECIPE' shows them."),
]
DataChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter of the data set, e.g. --set time_unit=days."),
]
DataOrGridChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a parameter of the data set, e.g. --set time_unit=days, or the shape or extent of the model's "
        "grid.",
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out visits and subjects that cannot be used, and list them.")
]
Format = Annotated[
    Literal["terminal", "csv", "md", "latex"],
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Form of the printed table: text (terminal), Markdown (md), LaTeX (latex), or its values as CSV (csv).",
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Compute only this metric, given as NAME or NAME:KEY=VALUE,KEY=VALUE (may be repeated).",
        autocompletion=names_in("metrics"),
    ),
]
Targets = Annotated[
    Literal["last", "all"],
    typer.Option(
        "--targets",
        metavar="TARGETS",
        help="Visits to score: the last visit of each subject (last), or all generated visits (all).",
    ),
]
Part = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    typer.Option(
        "--part",
        metavar="PART",
        help="Part of the training data set to use: train, validation, test or all; by default its test subjects, or "
        "all subjects of other data.",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler", help="Name of a sampler to use instead of the model's own.", autocompletion=names_in("samplers")
    ),
]
Evaluations = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Number of network evaluations per generated visit; by default the sampler's own.",
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", help="Weight of classifier-free guidance, 0 for none; by default the model's own."),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Noise levels with guidance, as the lowest and the highest log-SNR, e.g. -3,3; the network is evaluated "
        "once at others; by default the model's own, -60,60 for all.",
    ),
]
Order = Annotated[
    Literal["direct", "autoregressive"] | None,
    typer.Option(
        "--order",
        metavar="ORDER",
        help="Generate each time from the given visits alone (direct), or let each generated visit join the history of "
        "the next (autoregressive); by default the model's own.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(
        "--precision",
        metavar="PRECISION",
        help="Type that the networks compute in: fp32, bf16, fp16, or auto, which is bf16 on a GPU that has it and "
        "fp32 elsewhere.",
    ),
]
Compile = Annotated[
    Literal["none", "regional", "full"],
    typer.Option(
        "--compile",
        metavar="COMPILE",
        help="Compile the networks as a whole (full) or their repeated blocks (regional), or not (none). The first "
        "visit then takes minutes.",
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size",
        metavar="NUMBER|auto",
        help="Number of volumes to generate in one batch, samples of subjects; auto for as many as memory holds.",
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        help="Model: a published name (see 'longigen list models'), the folder of a run or a model, or "
        "hf-hub:org/repo or hf-hub:org/repo@revision.",
        autocompletion=names_in("models"),
    ),
]
Segmenter = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        metavar="SEGMENTER",
        help="Score regions too, which this segmenter marks: a folder that 'longigen train-segmenter' wrote, "
        "hf-hub:org/repo, a name (see 'longigen list segmenters'), or 'command:PROGRAM --i {image} --o {labels}'.",
        autocompletion=names_in("segmenters"),
    ),
]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="NAME=LABELS",
        help="Name a region of the segmenter's labels, e.g. 'ventricles=4+43' (may be repeated); by default they are "
        "those that it knows, or the data set's.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Device to compute on: cpu, cuda, cuda:1 or mps; by default a GPU, if there is one.",
    ),
]
Weights = Annotated[
    Literal["last", "best"],
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="Weights of a run: those of its last step (last), or of the step with the best validation (best).",
    ),
]
Published = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="Score as others published it (see 'longigen list protocols'): sets settings, targets, metrics and the "
        "preparation of the data.",
        autocompletion=names_in("protocols"),
    ),
]
Space = Annotated[
    Literal["subject", "model"],
    typer.Option(
        "--space",
        metavar="SPACE",
        help="Where to score: on the subject's own voxels, with visits as they are written (subject), or on the "
        "model's grid (model).",
    ),
]


class SettingName(StrEnum):
    """The three settings as an enumeration, since typer accepts a list of an enumeration but not of a Literal."""

    SINGLE = "single"
    MISSING = "missing"
    FULL = "full"


Settings = Annotated[
    list[SettingName] | None,
    typer.Option(
        "--setting",
        metavar="SETTING",
        help="Score only this setting (may be repeated): given are the first visit (single), a random part (missing) "
        "or all visits before the target (full); by default all three settings are scored.",
    ),
]


def names_of(settings: list[SettingName] | None) -> list[Any]:
    """Return the chosen settings as `longigen.api` takes them."""
    return [setting.value for setting in settings or ()]


def size_of(batch: str) -> Any:
    """Return a batch size as `longigen.api` takes it, which checks it: a number, or the text."""
    return int(batch) if batch.strip().isdecimal() else batch


def levels_of(interval: str | None) -> tuple[float, float] | None:
    """Return the lowest and the highest noise level with guidance as `longigen.api` takes them.

    Raises:
        LongigenError: if the text is not two numbers.
    """
    return None if interval is None else Parameter("--guidance-interval", NoiseLevels).check(interval)


NARROWEST = 40
"""A narrower terminal is written to as if it had so many columns."""
LONGEST_NAME = 24
"""A longer name stands on a line of its own, above what is said of it."""
QUOTED = re.compile(r"(?<!\w)'[^']+'(?!\w)|`[^`]+`")
"""A name or a command in a sentence, which is copied from the terminal as one piece."""


class Tabular(Protocol):
    """A result that can be written as a table of any width."""

    def table(self, width: int = ...) -> str:
        """Return the table, with at most `width` characters in a line."""
        ...


class Result(Tabular, Protocol):
    """A result that can be written in other forms as well."""

    def to_csv(self) -> str:
        """Return the values as CSV."""
        ...

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        ...

    def to_latex(self) -> str:
        """Return the table in LaTeX."""
        ...


def columns() -> int | None:
    """Return how many characters of a result fit into a line; None if it is written to a file or a pipe.

    That is the variable COLUMNS, if it is set, or else the width of the terminal. Lines of a file or a pipe are not
    broken, since another program may read them.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(int(given), NARROWEST)
    return max(shutil.get_terminal_size().columns, NARROWEST) if sys.stdout.isatty() else None


def wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    """Return a sentence in lines of at most `width` characters, or in one if `width` is None.

    Lines are broken between words, and not within a name or command in quotes that fits into a line. A longer word,
    such as a path, stays whole.

    Args:
        text: the sentence.
        width: number of characters, with the indentation.
        indent: put before each line but the first.
    """
    if width is None:
        return [text]
    whole = QUOTED.sub(lambda part: part[0].replace(" ", "\0") if len(part[0]) < width - len(indent) else part[0], text)
    lines = wrap(whole, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def beside(name: str, texts: Sequence[str], start: int, width: int | None) -> list[str]:
    """Return a name and texts beside it, which all start `start` characters from the left, as lines.

    Args:
        name: the name; one that does not fit stands on a line of its own.
        texts: texts, each starting on a line of its own.
        start: where the texts start.
        width: as for `wrapped`.
    """
    indent = " " * start
    lines = [line for text in texts for line in wrapped(f"{indent}{text}", width, indent)]
    if len(name) + 2 > start or not lines:
        return [name, *lines]
    return [name.ljust(start) + lines[0][start:], *lines[1:]]


def message(text: str, stream: TextIO) -> str:
    """Return a message as it is written to a stream: in lines if that is a terminal, else in one.

    A line that ends in a command to copy is not broken.
    """
    if not stream.isatty() or text.startswith("next: "):
        return text
    width = max(shutil.get_terminal_size().columns, NARROWEST)
    return "\n".join(line for part in text.split("\n") for line in wrapped(part, width))


def say(line: str) -> None:
    """Print a line to stderr, where everything but results is printed."""
    sys.stderr.write(message(printable(line), sys.stderr) + "\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a result to stdout."""
    typer.echo(printable(text))


def show_sentence(text: str, indent: str = "") -> None:
    """Print a sentence of a result to stdout, in lines that fit into the terminal; see `wrapped`."""
    for line in wrapped(printable(text), columns(), indent):
        typer.echo(line)


def show_table(result: Tabular) -> None:
    """Print a result as a table that fits into the terminal."""
    width = columns()
    show(result.table() if width is None else result.table(width))


def show_result(result: Result, content: Any, form: str, *, as_json: bool) -> None:
    """Print a result in the form that the user chose.

    Args:
        result: the result.
        content: what is printed as JSON.
        form: terminal, csv, md or latex.
        as_json: print JSON.

    Raises:
        LongigenError: if both JSON and another form are chosen.
    """
    if as_json and form != "terminal":
        raise LongigenError(f"--json and --format {form} are two forms of one result; give only one of the two.")
    if as_json:
        print_json(content)
    elif form == "terminal":
        show_table(result)
    else:
        show({"csv": result.to_csv, "md": result.to_markdown, "latex": result.to_latex}[form]())


def print_json(content: Any) -> None:
    """Print a result as JSON to stdout."""
    show(json.dumps(content, indent=2, ensure_ascii=False))  # what is escaped is valid JSON
