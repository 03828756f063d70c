"""Options that several commands share, and how they print."""

import json
import sys
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from longigen_cli.completion import names_in

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="A data set's name (see 'longigen list'), a path that one of them reads, or NAME:PATH.",
        autocompletion=names_in("datasets"),
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a hyperparameter, e.g. --set denoiser.width=32."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out visits and subjects that cannot be used, and say which.")
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Only this metric, or NAME:KEY=VALUE,KEY=VALUE (may be repeated).",
        autocompletion=names_in("metrics"),
    ),
]
Targets = Annotated[
    Literal["last", "all"],
    typer.Option("--targets", help="Score only each subject's last visit, or all visits."),
]
Part = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    typer.Option("--part", help="Part of the model's own data set; by default the subjects that training never saw."),
]
Sampler = Annotated[
    str | None,
    typer.Option("--sampler", help="Use another sampler than the model's.", autocompletion=names_in("samplers")),
]
Evaluations = Annotated[int | None, typer.Option("--steps", help="Network evaluations per visit.", min=1)]
Guidance = Annotated[float | None, typer.Option("--guidance", help="Weight of classifier-free guidance.", min=0)]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Number of subjects generated together.", min=1)]
Model = Annotated[
    str,
    typer.Argument(
        help="A published model's name (longigen list models), a run's or a model's folder, or hf-hub:org/repo[@REV].",
        autocompletion=names_in("models"),
    ),
]


class SettingName(StrEnum):
    """The three settings: typer takes a list of an enumeration, but not of a Literal."""

    SINGLE = "single"
    MISSING = "missing"
    FULL = "full"


Settings = Annotated[
    list[SettingName] | None,
    typer.Option("--setting", help="Only this setting (may be repeated); all three by default."),
]


def names_of(settings: list[SettingName] | None) -> list[Any]:
    """Return the settings that were chosen, as the Python interface takes them."""
    return [setting.value for setting in settings or ()]


def say(line: str) -> None:
    """Print a line to stderr, which is where everything goes that is not a result."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def print_json(content: Any) -> None:
    """Print a result for machines."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
