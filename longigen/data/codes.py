"""`Codes`: the codes of visits, each visit encoded once and kept in the cache."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from longigen.components.codec import Codec
from longigen.data.preprocess import Prepared
from longigen.utils.processes import share


class Codes:
    """The codes of preprocessed visits, as a codec gives them.

    A visit is encoded at its first use, and the cache of preprocessed visits keeps its code beside it; the key of the
    code has the codec's `identity`, so another configuration or other weights make another code. Codes of a `trivial`
    codec are the visits themselves and are not stored twice.

    Args:
        codec: the codec, which is copied: worker processes of a training use the copy, on the CPU.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec: Codec = copy.deepcopy(codec).cpu()
        self._key = codec.identity

    def visit(self, prepared: Prepared, index: int) -> Tensor:
        """Return the code (C', w, h, d) of a visit."""
        return self._visit(self.codec, prepared, index)

    def read(
        self,
        subjects: Sequence[Prepared],
        device: torch.device | str | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encode every visit of the subjects now, on a device; several processes share the subjects.

        Args:
            subjects: preprocessed subjects.
            device: where to encode; on the CPU by default.
            callback: called as ``callback(subjects done, all subjects)``.
        """
        if self.codec.trivial:
            return
        codec, mine = copy.deepcopy(self.codec).to(device or "cpu"), share(subjects)
        for done, prepared in enumerate(mine, start=1):
            for index in range(len(prepared.subject.visits)):
                self._visit(codec, prepared, index)
            if callback is not None:
                callback(done, len(mine))

    def _visit(self, codec: Codec, prepared: Prepared, index: int) -> Tensor:
        if codec.trivial:
            return prepared.visit(index)
        device = next((tensor.device for tensor in codec.state_dict().values()), torch.device("cpu"))

        @torch.no_grad()
        def encoded(image: Tensor) -> Tensor:
            return codec.encode(image[None].to(device))[0].cpu()

        return prepared.derived(index, self._key, encoded)
