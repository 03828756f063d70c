"""`Segmenter`: the base class of programs and networks that mark regions in an image."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from longigen.components.base import Component
from longigen.data.volume import Volume


class Segmenter(Component, abc.ABC):
    """Marks regions in an image, such as the ventricles of a heart, to measure them in generated images.

    Contract:

    - `segment(image)` takes a volume of any shape, spacing and intensities, and leaves it as it is. The result is a
      label map in the same space, on the image's grid or another one: whole numbers, 0 where there is no region. An
      image without contrast gets a label map too.
    - It is deterministic: the same image has the same label map.
    - `regions` names the labels, in the field's words, since regions are compared with a data set's by name: ``left
      ventricle``, ``myocardium``. It is empty if the segmenter does not know; its labels are then those of the data
      set, or the user names them. Several labels may be of one region.
    - `identity` is one line that changes whenever label maps may: the program, or a hash of the weights. It is part of
      the protocol that is hashed with every result.
    - A segmenter with one required parameter takes it from the command line, as ``--segmenter NAME:VALUE``.
    """

    kind: ClassVar[str] = "segmenter"

    @property
    @abc.abstractmethod
    def regions(self) -> Mapping[int, str]:
        """The name of the region that each label stands for; empty if that is not known."""

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """What the label maps depend on besides the image, in one line."""

    @abc.abstractmethod
    def segment(self, image: Volume) -> Volume:
        """Return the label map of an image.

        Raises:
            LongigenError: if the segmenter cannot be run, or fails.
        """
