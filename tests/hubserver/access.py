"""Who may do what: tokens, and the repositories that they open."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from hubserver.repository import Commit, HubError, Repository
from hubserver.wire import Wire

if TYPE_CHECKING:
    from hubserver.server import Token


class Access(Wire):
    """What all requests to the Hub begin with.

    Who may not see a repository gets the answer of one that does not exist: 401 without a token, 404 with one.
    """

    host = "hub"

    def token(self) -> "Token | None":
        """Return whose token came, or None if none came.

        Raises:
            HubError: 401, if it is nobody's.
        """
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        token = self.hub.tokens.get(secret)
        if scheme.lower() != "bearer" or token is None:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        return token

    def repository(self, name: str, *, write: bool = False) -> Repository:
        """Return a repository that the token may read, or write.

        Raises:
            HubError: 401, 403 or 404.
        """
        token, space = self.token(), name.split("/")[0]
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not (token and token.reads(space))):
            if token is None:  # with the code: without it the client sees this in a 401 of https only
                raise HubError(401, "RepoNotFound", "Invalid username or password.")
            raise HubError(404, "RepoNotFound", "Repository not found")
        if write and token is None:
            raise HubError(401, "", "Invalid username or password.")
        if write and not (token and token.writes(space)):
            raise HubError(403, "", "You must use a write token of a member to change this repository")
        return repository

    def head(self, repository: Repository, revision: str) -> Commit:
        """Return the last commit of a branch.

        Raises:
            HubError: 404 `RevisionNotFound`, if there is no such branch.
        """
        name = revision.removeprefix("refs/heads/")
        if name not in repository.branches:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository.commits[repository.branches[name]]

    def page(self, rows: list[dict[str, Any]], headers: dict[str, str] | None = None) -> None:
        """Send a page of a list, and in `Link` the address of the next."""
        size = self.hub.page_size
        start = int(self.query.get("cursor", "0"))
        headers = dict(headers or {})
        if start + size < len(rows):
            query = urlencode({**self.query, "cursor": start + size})
            headers["Link"] = f'<{self.hub.endpoint}{self.path.partition("?")[0]}?{query}>; rel="next"'
        self.answer_json(rows[start : start + size], headers=headers)
