"""``longigen pull``: download a model or a segmenter and verify its files."""

from longigen import api
from longigen_cli.console import AsJSON, Model, print_json, say, show, show_sentence


def pull(model: Model, as_json: AsJSON = False) -> None:
    """Download a model or a segmenter or update it, verify its files, and print where it is stored.

    An interrupted download continues where it stopped.
    """
    pulled = api.pull(model)
    summary = pulled.summary
    if summary.regions:
        use = f"evaluate MODEL --segmenter {model}"
    else:
        use = f"{'train --codec' if summary.is_codec else 'generate'} {model}"
    if pulled.note:
        say(f"{pulled.note} The files downloaded before are used instead.")
    if as_json:
        print_json({**pulled.to_dict(), **summary.to_dict(), "command": f"longigen {use}"})
        return
    show_sentence(f"{model} is {pulled.origin}: {summary.line}")
    show(f"verified and stored in {pulled.folder}")
    show(f"next: longigen {use}")
