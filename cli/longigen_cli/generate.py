"""``longigen generate``: generate missing and future visits as NIfTI files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from longigen import api
from longigen_cli.console import (
    BatchSize,
    Compile,
    Data,
    DataOrGridChanges,
    Device,
    Evaluations,
    Guidance,
    GuidanceInterval,
    Model,
    Order,
    Part,
    Precision,
    Sampler,
    SkipBad,
    Weights,
    levels_of,
    say,
    size_of,
)


def generate(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; by default a new one under generated/.")
    ] = None,
    weights: Weights = "last",
    data: Data = None,
    setting: Annotated[
        Literal["single", "missing", "full"],
        typer.Option(
            metavar="SETTING",
            help="Visits given to the model: the first (single), a random part (missing) or all before each target "
            "(full).",
        ),
    ] = "full",
    times: Annotated[
        list[str] | None,
        typer.Option(
            help="Times to generate instead of the subjects' own visits, in the unit of the data, e.g. 3.5,4 or +1 for "
            "one unit after the last visit."
        ),
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Generate visits of this subject only (may be repeated).")
    ] = None,
    part: Part = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Generate for the I-th of N equal shares of the subjects, for jobs that write into one folder.",
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            help="Number of samples of each visit; with several, their mean and standard deviation are written too.",
        ),
    ] = 1,
    sampler: Sampler = None,
    steps: Evaluations = None,
    guidance: Guidance = None,
    guidance_interval: GuidanceInterval = None,
    order: Order = None,
    precision: Precision = "auto",
    compile: Compile = "none",
    seed: Annotated[
        int, typer.Option(help="Random seed of the sampling noise and of the choice of missing visits.")
    ] = 0,
    detail: Annotated[
        bool,
        typer.Option(
            help="Keep the last given visit's own voxels, moved and changed as the model says, or write the model's "
            "images, interpolated from its grid."
        ),
    ] = True,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also write maps of how much each earlier visit contributed.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace files of the same visits that are in --out already, instead of keeping those of the same "
            "model, settings and inputs and refusing others.",
        ),
    ] = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Also write each subject's visits in order of time as a GIF.")
    ] = False,
    video: Annotated[
        bool,
        typer.Option(
            "--video", help="Also write each subject's visits in order of time as an MP4 video; needs longigen[video]."
        ),
    ] = False,
    series: Annotated[
        bool,
        typer.Option(
            "--4d",
            help="Also write each subject's generated visits as one 4D NIfTI file, such as the frames of a heart.",
        ),
    ] = False,
    layout: Annotated[
        Literal["bids", "flat"] | None,
        typer.Option(
            metavar="LAYOUT",
            help="How the folder is laid out: as BIDS derivatives (bids), or with one folder for each subject (flat); "
            "by default that of the visits it holds already, or else bids.",
        ),
    ] = None,
    batch_size: BatchSize = "4",
    changes: DataOrGridChanges = None,
    device: Device = None,
    skip_bad: SkipBad = False,
) -> None:
    """Generate visits as NIfTI files in each subject's own space, as BIDS derivatives with sidecars of their origin."""
    written = api.generate(
        model,
        out,
        weights=weights,
        data=data,
        changes=changes or [],
        setting=setting,
        times=None if times is None else [time for given in times for time in given.split(",")],
        subjects=subject or [],
        part=part,
        share=share,
        samples=samples,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        guidance_interval=levels_of(guidance_interval),
        order=order,
        precision=precision,
        compile=compile,
        seed=seed,
        detail=detail,
        explain=explain,
        overwrite=overwrite,
        animate=animate,
        video=video,
        series=series,
        layout=layout,
        batch_size=size_of(batch_size),
        device=device,
        skip_bad=skip_bad,
    )
    also = ", and the mean and standard deviation of each visit's samples," if samples > 1 else ""
    if api.is_main_process():
        say(f"Wrote {len(written.files)} volumes{also} to {written.folder}, listed in visits.csv")
        say(f"{written.folder / 'contact-sheet.png'} shows the first subjects")
