"""A hook of mkdocs: pages from elsewhere in the repository, and links that leave docs/ brought to where they lead."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "CONTRIBUTING-PLUGINS.md": "contributing-plugins.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "longigen/components/sampler.py": "reference.md",
    **{
        str(card.relative_to(ROOT)): f"models/{card.parent.name}.md"
        for card in sorted((ROOT / "plugins" / "longigen_models").glob("*/README.md"))
    },
}
"""Files of the repository outside of docs/, and the page of the site that shows each."""
SHOWN = {page: source for source, page in ELSEWHERE.items() if page not in ("index.md", "reference.md")}
"""The pages that are made of such a file."""
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!\!)\[(?P<text>[^\]]*)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for page, source in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if text.startswith("---\n"):  # a model card begins with metadata for the Hub
            text = text.partition("\n---\n")[2]
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point each relative link to the page or file of the site that shows what it names.

    Raises:
        PluginError: if a link names nothing in the repository.
    """
    here = page.file.src_uri
    folder = posixpath.dirname(SHOWN.get(here, f"docs/{here}"))

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found["path"]))
        if not (ROOT / target).exists():
            raise PluginError(f"{here} links to {found['path']}, which is not in the repository")
        path = _shown_at(target, files)
        if path is None:
            return f"{found['text']} (`{target}` in the repository)"
        anchor = found["anchor"] or ""
        return f"[{found['text']}]({posixpath.relpath(path, posixpath.dirname(here) or '.')}{anchor})"

    parts = FENCED.split(markdown)  # every second part is a block of code, in which nothing is a link
    return "".join(part if number % 2 else LINK.sub(link, part) for number, part in enumerate(parts))


def _shown_at(target: str, files: Files) -> str | None:
    """Return the file of the site that shows a file or folder of the repository; None where none does."""
    if target in ELSEWHERE:
        return ELSEWHERE[target]
    inside = target.removeprefix("docs/")
    if inside == target:
        return None
    return next((name for name in (inside, f"{inside}/README.md") if files.get_file_from_path(name)), None)
