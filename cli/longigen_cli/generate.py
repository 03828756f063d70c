"""``longigen generate``: fill in and forecast visits."""

from typing import Annotated, Literal

import typer

from longigen_cli.console import Changes, Data, Model, Output, SkipBad, progress, say, say_skipped


def generate(
    model: Model,
    out: Output,
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
    samples: Annotated[int, typer.Option(help="How many samples of each visit.", min=1)] = 1,
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

    writable_folder(out)
    keep_freed_memory()

    from accelerate import PartialState

    from longigen.explanation import require_explaining
    from longigen.generation import GenerationSettings
    from longigen.inquiry import Inquiry
    from longigen.registry import registry

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
    written = 0
    with state.split_between_processes(list(range(len(questions)))) as mine, progress("generating") as update:
        own = [questions[index] for index in mine]
        asked = None if wanted is None else [wanted[index] for index in mine]
        for sample in range(samples):
            settings = GenerationSettings(sampler=walker, steps=steps, guidance=guidance, seed=seed, sample=sample)
            offset = sample * len(own)
            for answer in inquiry.answers(
                own,
                settings,
                times=asked,
                batch_size=batch_size,
                callback=lambda done, total, offset=offset: update(offset + done, samples * total),
            ):
                paths = inquiry.write(answer, out, setting, settings)
                written += len(paths)
                if explain:
                    inquiry.write_explanations(answer, paths)
    say(f"{written} volumes written under {out}")
