"""Destinations: a repository of the Hub that is published to, and what goes wrong on the way there."""

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
NUMBERED = re.compile(r"v(\d+)")
TYPES = ("dataset", "space")


@dataclass(frozen=True)
class HubRepository:
    """A repository as it is before anything is published.

    Attributes:
        repository: ``org/name``.
        endpoint: the address of the Hub.
        private: whether it is; None where it does not exist.
        head: the commit that publishing follows; None where it does not exist.
        files: what it holds at `head`.
        tags: names of its versions.
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
    def of(cls, repository: str, api: "HfApi") -> "HubRepository":
        """Ask the Hub for a repository.

        Raises:
            LongigenError: if the name is none, there is no token or the Hub does not know it, the name is that of a
                data set or a space and no model's, or the Hub cannot be reached.
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
            raise LongigenError("A repository's name is ORG/NAME, of letters, digits and .-_; give one of that form.")
        if api.token is None and get_token() is None:
            raise LongigenError(
                f"There is no token for {endpoint}, without which nothing can be published; log in with 'hf auth "
                "login', or set HF_TOKEN to a token that may write."
            )
        with hub_errors(repository, endpoint):
            api.whoami()  # a wrong token is told from a repository that it may not see
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
        """Return the tag of a new version: the one that is asked for, else v1, v2 … after the last.

        Raises:
            LongigenError: if it exists, or cannot be the name of a tag.
        """
        if tag is None:
            numbers = [int(match[1]) for name in self.tags if (match := NUMBERED.fullmatch(name))]
            return f"v{max(numbers, default=0) + 1}"
        if tag in self.tags or tag in self.branches:
            noun = "version" if tag in self.tags else "branch"
            raise LongigenError(
                f"{self.repository} has a {noun} '{tag}' already; give another --tag, or none for "
                f"'{self.version(None)}' (nothing was published)."
            )
        if not TAG.fullmatch(tag) or ".." in tag or tag.endswith((".", ".lock")):
            raise LongigenError(f"'{tag}' cannot be the name of a version; use letters, digits and ._+-, as in v1.")
        return tag


@contextmanager
def hub_errors(
    repository: str,
    endpoint: str,
    so_far: str = "nothing was published",
    conflict: str = "was changed by somebody else meanwhile; look at it and push again",
) -> Iterator[None]:
    """Turn what the Hub or the way to it refuses into a `LongigenError` of one sentence.

    Args:
        repository: that is worked on.
        endpoint: the address of the Hub.
        so_far: what is there now, for the message.
        conflict: what is the matter with the repository if the Hub speaks of a conflict.
    """
    # HTTPError is of the client's library of HTTP, and which one that is depends on the client's version.
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
            raise LongigenError(f"{endpoint} does not take this ({why}); mend it and push again ({so_far}).") from error
        raise LongigenError(
            f"{endpoint} cannot be reached, or the connection broke ({reason(cause)}); push again when it is back "
            f"({so_far})."
        ) from error


def _refusal(error: "HfHubHTTPError", repository: str, endpoint: str, conflict: str) -> str:
    """Return what an answer of the Hub means, without a full stop."""
    status = error.response.status_code
    words = " ".join((getattr(error, "server_message", None) or "").split())[:200].rstrip(".")
    said = f": {words}" if words else ""
    if not str(error.response.url).startswith(endpoint):
        return f"The storage that {endpoint} sends files to answered {status}{said}; push again later"
    if status == 401:
        return f"{endpoint} does not know the token in HF_TOKEN or of 'hf auth login'; make a new one and log in again"
    if status == 403:
        return (
            f"The token has no right to write to {repository}{said}; take one with the role 'write' of a member of "
            f"'{repository.partition('/')[0]}', or another repository"
        )
    if status in (409, 412):
        return f"{repository} {conflict}"
    return f"{endpoint} answered {status}{said}; push again later"


def _refuse_other_types(repository: str, api: "HfApi") -> None:
    """Refuse a name under which there is something else: on the Hub a model could be put beside it, by mistake."""
    from huggingface_hub.errors import HfHubHTTPError

    for kind in TYPES:
        try:
            api.repo_info(repository, repo_type=kind)
        except HfHubHTTPError:
            continue
        raise LongigenError(
            f"{repository} is a {kind} on {api.endpoint} and not a model; choose another name (nothing was published)."
        )
