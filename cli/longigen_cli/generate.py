"""``longigen generate``: missing and future visits, as NIfTI files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from longigen import api
from longigen_cli.console import (
    BatchSize,
    Changes,
    Data,
    Evaluations,
    Guidance,
    Model,
    Part,
    Sampler,
    SkipBad,
    say,
)


def generate(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; by default a new one under generated/.")
    ] = None,
    data: Data = None,
    setting: Annotated[
        Literal["single", "missing", "full"],
        typer.Option(help="Which visits are given: the first, a random part, or all before each target."),
    ] = "full",
    times: Annotated[
        str | None,
        typer.Option(help="Generate visits at these times instead, e.g. 3.5,4; +1 is one unit after the last visit."),
    ] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject (may be repeated).")] = None,
    part: Part = None,
    samples: Annotated[
        int, typer.Option(help="Number of samples of each visit, at least 1; of several also mean and std are written.")
    ] = 1,
    sampler: Sampler = None,
    steps: Evaluations = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sampling noise.")] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write maps of how much each earlier visit contributed.")
    ] = False,
    batch_size: BatchSize = 4,
    changes: Changes = None,
    skip_bad: SkipBad = False,
) -> None:
    """Generate visits as NIfTI files in each subject's own space, with a JSON sidecar of their provenance."""
    written = api.generate(
        model,
        out,
        data=data,
        changes=changes or [],
        setting=setting,
        times=None if times is None else times.split(","),
        subjects=subject or [],
        part=part,
        samples=samples,
        sampler=sampler,
        steps=steps,
        guidance=guidance,
        seed=seed,
        explain=explain,
        batch_size=batch_size,
        skip_bad=skip_bad,
    )
    also = ", and the mean and std of each visit's samples," if samples > 1 else ""
    say(f"{len(written.files)} volumes{also} written under {written.folder}")
