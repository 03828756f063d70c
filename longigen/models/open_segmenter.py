"""Open a segmenter by its registered name, or by the folder or the repository of a trained one."""

from longigen.components.base import parameters
from longigen.data.segmenter import Segmenter
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.manifest import SEGMENTER
from longigen.hub.resolve import ModelSource
from longigen.hub.zoo import HUB
from longigen.models.network_segmenter import NetworkSegmenter, load_segmenter
from longigen.registry.registry import registry
from longigen.utils.files import user_path
from longigen.utils.processes import processes


def open_segmenter(text: str) -> Segmenter:
    """Open the segmenter that a user named.

    Args:
        text: the name of a segmenter; ``NAME:VALUE`` for one that takes a value, such as a command; a folder that
            ``longigen train-segmenter`` wrote; or ``hf-hub:org/repo``, which is downloaded if it is not here.

    Raises:
        LongigenError: if there is no such segmenter, folder or repository, or it cannot be used.
    """
    name, colon, value = text.partition(":")
    known = registry.entries("segmenter")
    if name not in known:
        folder = user_path(text)
        if not folder.is_dir() and _may_be_repository(text):
            folder = ModelSource.parse(text, accepted=(SEGMENTER,)).find()
        if folder.is_dir():
            return load_segmenter(folder).to(processes().device)
        raise LongigenError(
            f"There is neither a segmenter nor a folder named '{text}'.{did_you_mean(name, known)} Give a folder that "
            f"'longigen train-segmenter' wrote, {HUB}org/repo, or one of: {', '.join(known)}."
        )
    cls = registry.load("segmenter", name)
    required = [key for key, parameter in parameters(cls).items() if parameter.required]
    if colon and len(required) != 1:
        raise LongigenError(f"The segmenter '{name}' takes no value, so write '{name}' without '{colon}{value}'.")
    if required and not value:
        raise LongigenError(
            f"The segmenter '{name}' needs its {required[0]}; write it as {name}:{required[0].upper()}."
        )
    segmenter = registry.make("segmenter", name, {required[0]: value} if required else {})
    if isinstance(segmenter, NetworkSegmenter):
        raise LongigenError(
            f"The segmenter '{name}' has no weights before it is trained; train it with 'longigen train-segmenter "
            f"--segmenter {name}', and give the folder that it writes."
        )
    return segmenter


def _may_be_repository(text: str) -> bool:
    """Return whether a text is ``hf-hub:org/repo``, or ``org/repo`` where no folder ``org`` exists."""
    named = text.count("/") == 1 and not text.startswith((".", "/", "~")) and not any(mark in text for mark in ": ")
    return text.startswith(HUB) or (named and not user_path(text).parent.is_dir())
