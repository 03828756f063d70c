"""The command-line application: its commands, and how errors and warnings are printed."""

import logging
import os
import sys
import warnings
from shlex import quote
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from longigen import __version__, api
from longigen.errors import LongigenError, LongigenWarning, did_you_mean, printable
from longigen_cli import (
    bench,
    check,
    compare,
    console,
    distill,
    doctor,
    evaluate,
    generate,
    info,
    new_plugin,
    plan,
    prepare,
    pull,
    push,
    report,
    train,
    train_codec,
    train_segmenter,
    view,
)
from longigen_cli import list as listing

PYTHON_FORMAT = warnings.formatwarning

WRONG_WORDS: Any = typer.BadParameter.__mro__[2]
"""`ClickException`, the errors of the words of a command line; of click, or of the copy of it in typer."""

DEVICES = ("cpu", "cuda", "device", "gpu", "gpus")
"""Names of options that other programs have for the device."""


class _Command(TyperCommand):
    """A command that says in one sentence what to use instead of an option that it does not have."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [*args])
        except Exception as error:  # such as NoSuchOption, of click or of the copy of it in typer
            if isinstance(error, WRONG_WORDS):
                console.require_quoted(args)
                self._require_option_of_data(ctx, args, str(error))
            given = getattr(error, "option_name", None)
            if type(error).__name__ != "NoSuchOption" or given is None:
                raise
            options = [name for parameter in self.params for name in parameter.opts if name.startswith("--")]
            similar = [option for option in options if abs(len(option) - len(given)) <= 2]
            name, advice = given.lstrip("-"), did_you_mean(given, similar)
            if name.lower() in DEVICES:
                option = "--device, as in --device cuda:1, or " if "--device" in options else ""
                advice = f" A GPU is used if there is one; {option}the variable CUDA_VISIBLE_DEVICES chooses which."
            elif not advice and "--set" in options:
                advice = f" Hyperparameters are changed by --set, as in --set {name.replace('-', '_')}=VALUE."
            raise LongigenError(
                f"'longigen {ctx.info_name}' has no option {given}.{advice} See 'longigen {ctx.info_name} --help'."
            ) from error

    def _require_option_of_data(self, ctx: Any, args: list[str], message: str) -> None:
        """Raise a `LongigenError` if a file or folder is the extra argument of an error, and the command has --data."""
        extra = next((word for word in args if f"({word}" in message and os.path.exists(word)), None)
        if extra is not None and any("--data" in parameter.opts for parameter in self.params):
            raise LongigenError(
                f"'longigen {ctx.info_name}' was given {extra} without the name of an option; data are given as --data "
                f"{quote(extra)}."
            )


app = typer.Typer(
    name="longigen",
    help="A plug-in model zoo for longitudinal 3D medical image generation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("prepare", cls=_Command)(prepare.prepare)
app.command("train", cls=_Command)(train.train)
app.command("plan", cls=_Command)(plan.plan)
app.command("train-codec", cls=_Command)(train_codec.train_codec)
app.command("train-segmenter", cls=_Command)(train_segmenter.train_segmenter)
app.command("distill", cls=_Command)(distill.distill)
app.command("generate", cls=_Command)(generate.generate)
app.command("evaluate", cls=_Command)(evaluate.evaluate)
app.command("bench", cls=_Command)(bench.bench)
app.command("compare", cls=_Command)(compare.compare)
app.command("report", cls=_Command)(report.report)
app.command("view", cls=_Command)(view.view)
app.command("pull", cls=_Command)(pull.pull)
app.command("push", cls=_Command)(push.push)
app.command("list", cls=_Command)(listing.list_)
app.command("info", cls=_Command)(info.info)
app.command("check", cls=_Command)(check.check)
app.command("doctor", cls=_Command)(doctor.doctor)
app.command("new-plugin", cls=_Command)(new_plugin.new_plugin)


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
    """Format a `LongigenWarning` as one line, and any other warning as Python does; empty if a process said it."""
    if not api.says_first(str(message)):
        return ""
    if issubclass(category, LongigenWarning):
        return console.message(f"longigen: {message}", sys.stderr) + "\n"
    return PYTHON_FORMAT(message, category, filename, lineno, line)


class _MessageFormatter(logging.Formatter):
    """The message alone, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return console.message(printable(super().format(record)), sys.stderr)


def _log_to_stderr() -> None:
    """Print the messages that `longigen.api` logs to stderr, without prefixes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MessageFormatter())
    handler.addFilter(lambda record: api.says_first(record.getMessage()))
    logger = logging.getLogger("longigen")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> None:
    """Run the application; a `LongigenError` is printed as one sentence on stderr, with exit status 2.

    Of several processes, the first that fails says so, and the others end with it.
    """
    warnings.formatwarning = _format_warning
    _log_to_stderr()
    try:
        api.join_processes()
        sys.exit(app(standalone_mode=False))  # the status of typer.Exit, or None
    except WRONG_WORDS as error:
        from typer import rich_utils  # with the package for Markdown it takes a third of the command line's start

        with api.failing(alike=True) as first:
            if first:
                rich_utils.rich_format_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:  # the answer to a question
        from typer import rich_utils

        rich_utils.rich_abort_error()
        sys.exit(1)
    except LongigenError as error:
        with api.failing(alike=error.raised_by_all) as first:
            if first and os.environ.get("LONGIGEN_DEBUG"):
                raise
            if first:
                console.say(f"longigen: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        with api.failing() as first:
            if first:
                sys.stderr.write("longigen: interrupted\n")
        sys.exit(130)
    except Exception:
        with api.failing() as first:
            if first:
                raise
        sys.exit(2)  # most likely since it does not reach the process that failed first
