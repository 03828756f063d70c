"""The repository on the Hugging Face Hub to which a model is published, and the Hub's errors as messages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longigen.errors import LongigenError
from longigen.utils.files import reason

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NUMBERED_TAG = re.compile(r"v(\d+)")
OTHER_TYPES = ("dataset", "space")


@dataclass(frozen=True)
class HubRepository:
    """The state of a repository on the Hub before publication.

    Attributes:
        repository: ``org/name``.
        endpoint: URL of the Hub.
        private: whether it is private; None if it does not exist.
        head: the last commit; None if it does not exist.
        files: names of its files at `head`.
        tags: names of its tags.
        branches: names of its branches.
    """

    repository: str
    endpoint: str
    private: bool | None = None
    head: str | None = None
    files: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    branches: tuple[str, ...] = ("main",)

    @classmethod
    def fetch(cls, repository: str, api: "HfApi") -> "HubRepository":
        """Fetch the state of a repository from the Hub.

        Raises:
            LongigenError: if the name is invalid or that of a data set or a space, there is no valid token, or the Hub
                cannot be reached.
        """
        from huggingface_hub import get_token
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
        from huggingface_hub.utils import validate_repo_id

        endpoint = api.endpoint
        try:
            validate_repo_id(repository)
        except HFValidationError:
            repository = ""
        if repository.count("/") != 1:
            raise LongigenError("The repository must be given as ORG/NAME, of letters, digits and .-_ only.")
        if api.token is None and get_token() is None:
            raise LongigenError(
                f"There is no token for {endpoint}, which publishing needs; log in with 'hf auth login', or set "
                "HF_TOKEN to a token with the role 'write'."
            )
        with hub_errors(repository, endpoint):
            api.whoami()  # distinguishes an invalid token from a repository that it may not see
            try:
                info = api.model_info(repository)
            except RepositoryNotFoundError:
                _refuse_other_types(repository, api)
                return cls(repository, endpoint)
            refs = api.list_repo_refs(repository)
        return cls(
            repository,
            endpoint,
            private=bool(info.private),
            head=info.sha,
            files=tuple(file.rfilename for file in info.siblings or ()),
            tags=tuple(ref.name for ref in refs.tags),
            branches=tuple(ref.name for ref in refs.branches),
        )

    @property
    def exists(self) -> bool:
        return self.head is not None

    def version(self, tag: str | None) -> str:
        """Return the tag of a new version: the given one, or by default the next of v1, v2 ….

        Raises:
            LongigenError: if the tag exists already or is invalid.
        """
        if tag is None:
            numbers = [int(match[1]) for name in self.tags if (match := NUMBERED_TAG.fullmatch(name))]
            return f"v{max(numbers, default=0) + 1}"
        if tag in self.tags or tag in self.branches:
            noun = "version" if tag in self.tags else "branch"
            raise LongigenError(
                f"{self.repository} already has a {noun} '{tag}'; give another --tag, or none for "
                f"'{self.version(None)}' (nothing was published)."
            )
        if not TAG.fullmatch(tag) or ".." in tag or tag.endswith((".", ".lock")):
            raise LongigenError(f"'{tag}' is not a valid tag; use letters, digits and ._+-, as in v1.")
        return tag


@contextmanager
def hub_errors(
    repository: str,
    endpoint: str,
    so_far: str = "nothing was published",
    conflict: str = "was changed by another commit meanwhile; check it and push again",
) -> Iterator[None]:
    """Translate exceptions of the Hub and of the network into a `LongigenError`.

    Args:
        repository: ``org/name``, for the message.
        endpoint: URL of the Hub, for the message.
        so_far: what has been published until now, for the message.
        conflict: the message's wording of a conflict (HTTP status 409 or 412), following the repository's name.
    """
    # HTTPError is that of requests or httpx, depending on huggingface_hub's version.
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
        OfflineModeIsEnabled,
    )

    try:
        yield
    except OfflineModeIsEnabled:
        raise LongigenError(f"HF_HUB_OFFLINE is set, so {so_far}; unset it to publish.") from None
    except HfHubHTTPError as error:
        raise LongigenError(f"{_refusal(error, repository, endpoint, conflict)} ({so_far}).") from error
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError):
            raise LongigenError(f"{_refusal(cause, repository, endpoint, conflict)} ({so_far}).") from error
        if isinstance(cause, ValueError):
            why = " ".join(str(cause).split())[:300].rstrip(".")
            raise LongigenError(f"{endpoint} refuses this ({why}); correct it and push again ({so_far}).") from error
        raise LongigenError(
            f"{endpoint} cannot be reached, or the connection broke ({reason(cause)}); push again later ({so_far})."
        ) from error


def _refusal(error: "HfHubHTTPError", repository: str, endpoint: str, conflict: str) -> str:
    """Return the message for an HTTP error of the Hub, without a full stop."""
    status = error.response.status_code
    text = " ".join((getattr(error, "server_message", None) or "").split())[:200].rstrip(".")
    detail = f": {text}" if text else ""
    if not str(error.response.url).startswith(endpoint):
        return f"The file storage of {endpoint} answered with status {status}{detail}; push again later"
    if status == 401:
        return f"{endpoint} refuses the token of HF_TOKEN or 'hf auth login'; create a new one and log in again"
    if status == 403:
        return (
            f"The token may not write to {repository}{detail}; use one with the role 'write' of a member of "
            f"'{repository.partition('/')[0]}', or another repository"
        )
    if status in (409, 412):
        return f"{repository} {conflict}"
    return f"{endpoint} answered with status {status}{detail}; push again later"


def _refuse_other_types(repository: str, api: "HfApi") -> None:
    """Refuse the name of a data set or space; the Hub would allow a model of the same name, probably by mistake."""
    from huggingface_hub.errors import HfHubHTTPError

    for kind in OTHER_TYPES:
        try:
            api.repo_info(repository, repo_type=kind)
        except HfHubHTTPError:
            continue
        raise LongigenError(
            f"{repository} is a {kind} on {api.endpoint} and not a model; choose another name (nothing was published)."
        )
