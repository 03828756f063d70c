"""``longigen prepare``: make data of scans that models can be trained on."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from longigen import api
from longigen_cli.completion import names_in
from longigen_cli.console import DataChanges, say, show_sentence


def prepare(
    raw: Annotated[
        str,
        typer.Argument(
            metavar="RAW",
            help="Scans: a data set (a name, a file or folder, or NAME:PATH), a folder tree SUBJECT/VISIT of NIfTI, or "
            "a folder of DICOM files.",
            autocompletion=names_in("datasets"),
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to; subjects that it holds are kept.")],
    mask: Annotated[
        Literal["auto", "given", "synthstrip", "hd-bet", "nonzero", "none"],
        typer.Option(
            "--mask",
            metavar="MASK",
            help="Where masks come from: the images' own (given), the programs SynthStrip (synthstrip) or HD-BET "
            "(hd-bet), the voxels other than 0 (nonzero), none, or what is at hand (auto).",
        ),
    ] = "auto",
    bias: Annotated[
        Literal["n4", "none"],
        typer.Option("--bias", metavar="BIAS", help="Correct the bias field of each visit by N4 (n4), or not (none)."),
    ] = "n4",
    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing",
            metavar="MM",
            help="Size of the voxels in mm, e.g. 1 or 1,1,3; by default the median of all visits along each axis.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="PATTERN",
            help="Names of the images to take where a visit of a folder tree has several, e.g. '*T1*'.",
        ),
    ] = None,
    changes: DataChanges = None,
) -> None:
    """Register each subject's visits, mask them and bring them onto one grid.

    Exit status 1 if a subject or a visit could not be prepared; the others are.
    """
    done = api.prepare(raw, out, mask=mask, bias=bias, spacing=spacing, images=images, changes=changes or [])
    for problem in done.failed:
        say(f"failed: {problem}")
    numbers = f"prepared {len(done.prepared)}, kept {len(done.kept)}, failed {len(done.failed)}"
    show_sentence(f"{done.folder}: {numbers}")
    if done.prepared or done.kept:
        say(f"next: look at {done.folder}/sub-*/figures/*.png, then longigen doctor {shlex.quote(str(done.folder))}")
    if done.failed:
        raise typer.Exit(1)
