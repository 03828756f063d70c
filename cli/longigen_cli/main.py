"""The application: its commands, and how a mistake is told."""

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from longigen import __version__
from longigen.errors import LongigenError, LongigenWarning
from longigen_cli import bench, check, doctor, evaluate, generate, info, new_plugin, pull, push, train
from longigen_cli import list as listing

PLAIN = warnings.formatwarning

app = typer.Typer(
    name="longigen",
    help="A plug-in model zoo for longitudinal 3D medical image generation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("evaluate")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("pull")(pull.pull)
app.command("push")(push.push)
app.command("list")(listing.list_)
app.command("info")(info.info)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("new-plugin")(new_plugin.new_plugin)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longigen {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
) -> None:
    """Train, generate and evaluate models of longitudinal 3D medical images."""
    if debug:
        os.environ["LONGIGEN_DEBUG"] = "1"


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Say a warning that is for the user in one line, and any other as Python does."""
    return (
        f"longigen: {message}\n"
        if issubclass(category, LongigenWarning)
        else PLAIN(message, category, filename, lineno, line)
    )


def _log_to_stderr() -> None:
    """Print what the Python interface logs, line by line, as it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("longigen")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    """Run the application; a user's mistake is one sentence on stderr and exit status 2."""
    warnings.formatwarning = _warning
    _log_to_stderr()
    try:
        app()
    except LongigenError as error:
        if os.environ.get("LONGIGEN_DEBUG"):
            raise
        sys.stderr.write(f"longigen: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("longigen: interrupted\n")
        sys.exit(130)
