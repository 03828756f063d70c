"""Open a codec by its registered name, the folder of a trained one, or the model that has it."""

import json
from pathlib import Path

from longigen.components.changes import as_changes
from longigen.components.codec import Codec
from longigen.errors import LongigenError, did_you_mean
from longigen.hub.model_config import CODEC, is_codec, read_config
from longigen.hub.resolve import ModelSource
from longigen.models.longitudinal import LongitudinalModel
from longigen.models.network_codec import NetworkCodec, load_codec
from longigen.models.pretrained import load_folder
from longigen.registry.registry import registry
from longigen.utils.files import user_path


def open_codec(text: str) -> Codec:
    """Return the codec that a user named, with its weights if it has any.

    Args:
        text: a registered name; a folder that ``longigen train-codec`` wrote; or a run, a model's folder, a published
            model or a Hub repository of a model that has a codec.

    Raises:
        LongigenError: if there is no such codec, or it cannot be read.
    """
    known = registry.entries(CODEC)
    if text in known:
        return registry.make(CODEC, text).compose(1)
    folder = user_path(text)
    try:
        found: Path = ModelSource.parse(text).find()
    except LongigenError as error:
        if "/" in text or folder.exists():
            raise LongigenError(f"There is no codec at {text}, neither of its own nor in a model: {error}") from error
        raise LongigenError(
            f"There is neither a codec nor a folder named '{text}'.{did_you_mean(text, known)} Give a folder that "
            f"'longigen train-codec' wrote, a model with a codec, or one of: {', '.join(known)}."
        ) from None
    config = read_config(found)
    if is_codec(config):
        return load_codec(found)
    if CODEC not in config:
        raise LongigenError(f"The model {text} works on images and has no codec; give a model with one, or its folder.")
    return LongitudinalModel.from_pretrained(text).codec


def load_any(folder: Path) -> LongitudinalModel | NetworkCodec:
    """Load what is in a folder, a model or a codec, as publishing does to check it.

    Raises:
        LongigenError: if it cannot be loaded.
    """
    return load_codec(folder) if is_codec(read_config(folder)) else load_folder(LongitudinalModel, folder)


def codec_choice(text: str) -> tuple[str, list[str]]:
    """Return the name of the codec that a user named, and the changes ``key=value`` of a recipe that it stands for.

    Raises:
        LongigenError: as `open_codec`.
    """
    if text in registry.entries(CODEC):
        return text, []
    codec = open_codec(text)
    weights = [f"training.init_codec={json.dumps(text)}"] if codec.state_dict() else []
    return registry.name_of(codec), [
        *as_changes({f"{CODEC}.{key}": codec.config[key] for key in codec.config}),
        *weights,
    ]
