"""The command-line application: its commands, and how errors and warnings are printed."""

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from longigen import __version__
from longigen.errors import LongigenError, LongigenWarning, printable
from longigen_cli import bench, check, doctor, evaluate, generate, info, new_plugin, pull, push, train
from longigen_cli import list as listing

PYTHON_FORMAT = warnings.formatwarning

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


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"longigen {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")] = False,
) -> None:
    """Train, generate and evaluate models of longitudinal 3D medical images."""
    if debug:
        os.environ["LONGIGEN_DEBUG"] = "1"


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a `LongigenWarning` as one line, and any other warning as Python does."""
    if issubclass(category, LongigenWarning):
        return f"longigen: {message}\n"
    return PYTHON_FORMAT(message, category, filename, lineno, line)


class _MessageFormatter(logging.Formatter):
    """The message alone, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _log_to_stderr() -> None:
    """Print the messages that `longigen.api` logs to stderr, without prefixes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MessageFormatter())
    logger = logging.getLogger("longigen")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    """Run the application; a `LongigenError` is printed as one sentence on stderr, with exit status 2."""
    warnings.formatwarning = _format_warning
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
