"""``longigen generate``: fill in and forecast visits."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from longigen_cli.console import Changes, Data, Model, SkipBad, new_folder, progress, say, say_skipped, transfer


def generate(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; by default a new one under generated/.")
    ] = None,
    data: Data = None,
    setting: Annotated[
        Literal["single", "missing", "full"],
        typer.Option(help="What is given: the first visit, a random part, or all visits before each target."),
    ] = "full",
    times: Annotated[
        str | None, typer.Option(help="Times to make instead, e.g. 3.5,4; +1 is one unit after the last visit.")
    ] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject (may be repeated).")] = None,
    part: Annotated[
        Literal["train", "validation", "test", "all"] | None,
        typer.Option(help="Of the model's own data; by default what training never saw."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="How many samples of each visit; of several, mean and std too.", min=1)
    ] = 1,
    sampler: Annotated[str | None, typer.Option(help="Walk with another sampler than the model's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Network evaluations per visit.", min=1)] = None,
    guidance: Annotated[float | None, typer.Option(help="Weight of classifier-free guidance.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 0,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write beside each visit which visits it was made from, and where.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Subjects that are generated together.", min=1)] = 4,
    changes: Changes = None,
    skip_bad: SkipBad = False,
) -> None:
    """Generate visits as NIfTI files in each subject's own space, with a JSON sidecar of their provenance."""
    from longigen.files import writable_folder
    from longigen.heap import keep_freed_memory
    from longigen.source import Source

    source = Source.of(model)
    with transfer("pulling") as update:
        source.find(update)  # what is wrong with a model is told before anything is made or imported
    if out is None:
        out = new_folder("generated", source.stem)
    writable_folder(out)
    keep_freed_memory()

    from accelerate import PartialState

    from longigen.assessment import how
    from longigen.explanation import require_explaining
    from longigen.generation import GenerationSettings
    from longigen.inquiry import Inquiry
    from longigen.registry import registry
    from longigen.spread import caution

    with progress("reading") as update:
        inquiry = Inquiry.open(
            model,
            data=data,
            changes=changes or [],
            part=part,
            ids=subject or [],
            skip_bad=skip_bad,
            callback=update,
        )
    say_skipped(inquiry.cohort.skipped)
    if explain:
        require_explaining(inquiry.model)
    walker = registry.load("sampler", sampler)() if sampler else None
    state = PartialState()
    inquiry.model.to(state.device)
    if times is None:
        questions, wanted = inquiry.questions(setting, seed=seed), None
    else:
        questions, wanted = inquiry.forecasts(times.split(","), setting, seed=seed)
    say(f"{len(inquiry.subjects)} subjects of {inquiry.cohort.name} ({inquiry.note})")
    settings = GenerationSettings(sampler=walker, steps=steps, guidance=guidance, seed=seed)
    written, widest = 0, 0.0
    with state.split_between_processes(list(range(len(questions)))) as mine, progress("generating") as update:
        own = [questions[index] for index in mine]
        asked = None if wanted is None else [wanted[index] for index in mine]
        for start in range(0, len(own), batch_size):
            batch, paths, answers = own[start : start + batch_size], [], []
            for sample in range(samples):
                numbered = replace(settings, sample=sample)
                times_of = None if asked is None else asked[start : start + batch_size]
                answers = list(inquiry.answers(batch, numbered, times=times_of, batch_size=batch_size))
                paths.append([inquiry.write(answer, out, setting, numbered) for answer in answers])
                if explain:
                    for answer, made in zip(answers, paths[-1], strict=True):
                        inquiry.write_explanations(answer, made)
                update(start * samples + (sample + 1) * len(batch), len(own) * samples)
            if samples > 1:
                for answer, files in zip(answers, zip(*paths, strict=True), strict=True):
                    widest = max(widest, inquiry.write_spread(answer, files, setting, settings))
            written += sum(len(made) for each in paths for made in each)
    if own:
        warning = caution(samples, how(inquiry, settings)["steps"], widest)
        if warning:
            say(warning)
    also = ", and the mean and std of each visit's samples," if samples > 1 else ""
    say(f"{written} volumes{also} written under {out}")
