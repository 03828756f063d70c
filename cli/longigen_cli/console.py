"""Options that several commands share, and printing of lines and JSON."""

import json
import sys
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from longigen.errors import printable
from longigen_cli.completion import names_in

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Data set: a name (see 'longigen list datasets'), a file or folder, or NAME:PATH; by default the data "
        "of the recipe or of the model's training.",
        autocompletion=names_in("datasets"),
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a hyperparameter, e.g. --set denoiser.width=32."),
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
        help="Change a parameter of the data set, e.g. --set time_unit=days, or the model's grid: --set "
        "preprocess.shape=0,0,0 for each subject's whole image.",
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out visits and subjects that cannot be used, and list them.")
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
    typer.Option("--targets", help="Visits to score: the last visit of each subject, or all generated visits."),
]
Part = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    typer.Option(
        "--part",
        help="Part of the training data set to use; by default its test subjects, or all subjects of other data.",
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
Order = Annotated[
    Literal["direct", "autoregressive"] | None,
    typer.Option(
        "--order",
        help="Generate each time from the given visits alone (direct), or let each generated visit join the history of "
        "the next (autoregressive); by default the model's own.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(
        "--precision",
        help="Type that the networks compute in; auto is bf16 on a GPU that has it and fp32 elsewhere.",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Number of subjects to generate in one batch.")]
Model = Annotated[
    str,
    typer.Argument(
        help="Model: a published name (see 'longigen list models'), the folder of a run or a model, or "
        "hf-hub:org/repo or hf-hub:org/repo@revision.",
        autocompletion=names_in("models"),
    ),
]


Space = Annotated[
    Literal["subject", "model"],
    typer.Option(
        "--space",
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
        help="Score only this setting (may be repeated): given are the first visit (single), a random part (missing) "
        "or all visits before the target (full); by default all three settings are scored.",
    ),
]


def names_of(settings: list[SettingName] | None) -> list[Any]:
    """Return the chosen settings as `longigen.api` takes them."""
    return [setting.value for setting in settings or ()]


def say(line: str) -> None:
    """Print a line to stderr, where everything but results is printed."""
    sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


def show(text: str) -> None:
    """Print a result to stdout."""
    typer.echo(printable(text))


def print_json(content: Any) -> None:
    """Print a result as JSON to stdout."""
    show(json.dumps(content, indent=2, ensure_ascii=False))  # what is escaped is valid JSON
