"""Create a new plugin package from a template: a small working component for its author to change."""

import keyword
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.resources import files
from pathlib import Path
from string import Template

from longigen._version import __version__
from longigen.errors import LongigenError, did_you_mean
from longigen.registry.catalog import CATALOG_SECTIONS, Catalog
from longigen.registry.packages import find_module
from longigen.registry.registry import KINDS, name_problem, registry
from longigen.utils.files import atomic_folder, write_errors

MAX_NAME_LENGTH = 32
"""Longest name of a component: the generated code keeps to lines of 120 characters with it."""

PREFIX = "longigen"
"""Prefix of the project's own packages, and of every plugin's distribution."""


@dataclass(frozen=True)
class TemplateKind:
    """The template of one kind of component.

    Attributes:
        noun: what the component is called in text.
        dependencies: packages that the plugin requires besides longigen.
        command: a command that uses the component.
        has_recipe: whether the template contains a recipe.
    """

    noun: str
    dependencies: tuple[str, ...]
    command: str
    has_recipe: bool = True


TEMPLATES: Mapping[str, TemplateKind] = {
    "conditioner": TemplateKind("conditioner", ("torch",), "longigen train --conditioner {name}"),
    "denoiser": TemplateKind("denoiser", ("torch",), "longigen train --denoiser {name}"),
    "sampler": TemplateKind("sampler", ("torch",), "longigen train --sampler {name}"),
    "codec": TemplateKind("codec", ("torch",), "longigen train --codec {name}", has_recipe=False),
    "dataset": TemplateKind("data set", ("numpy",), "longigen train --data {name}"),
    "metric": TemplateKind("metric", ("torch",), "longigen evaluate RUN --metric {name}", has_recipe=False),
    "segmenter": TemplateKind("segmenter", ("numpy",), "longigen evaluate RUN --segmenter {name}", has_recipe=False),
}


@dataclass(frozen=True)
class PluginTemplate:
    """A new plugin package with one component.

    The component ``my-denoiser`` is in the package ``my_denoiser``, which Python imports, of the distribution
    ``longigen-my-denoiser``, which pip installs. So the distribution does not occupy a general name on PyPI, and the
    package cannot collide with the project's own, which all begin with ``longigen``.

    Attributes:
        name: the component's name.
        kind: one of `KINDS`.

    Raises:
        LongigenError: if the kind is unknown, or the name has other characters than lower-case letters, digits and
            hyphens, cannot be imported, or is in use by the registry, a distribution or a package.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LongigenError(
                f"There is no kind '{self.kind}'.{did_you_mean(self.kind, KINDS)} Choose one of: {', '.join(KINDS)}."
            )
        self._check_name()
        self._check_not_taken()

    @property
    def distribution(self) -> str:
        return f"{PREFIX}-{self.name}"

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    @property
    def class_name(self) -> str:
        """The name in camel case, with the kind at its end: ``MyDenoiser``, ``SwinDenoiser``."""
        words = self.name.removesuffix(f"-{self.kind}").split("-")
        return "".join(word.capitalize() for word in (*words, self.kind))

    @property
    def recipe(self) -> str:
        """The name of the package's recipe, if the kind's template has one."""
        return f"{self.name}-tiny"

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that check the component and use it, once it is installed."""
        return f"longigen check {self.name}", TEMPLATES[self.kind].command.format(name=self.name)

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path inside the package's folder."""
        return {
            "pyproject.toml": self._render("pyproject.toml"),
            "README.md": self._render("README.md"),
            f"src/{self.package}/__init__.py": self._render("__init__.py"),
            f"src/{self.package}/{self.kind}.py": self._render(f"{self.kind}/component.py"),
            f"src/{self.package}/registry.yaml": self._render(f"{self.kind}/registry.yaml"),
            f"tests/test_{self.package}.py": self._render(f"{self.kind}/test.py"),
        }

    def write(self, folder: Path) -> None:
        """Write the package into a new or empty folder, completely or not at all.

        Raises:
            LongigenError: if the folder is not empty, is the current one, or cannot be written.
        """
        with write_errors(folder):
            path = folder.resolve()
            if path == Path.cwd():
                raise LongigenError(f"{folder} is the current folder; name a new one with --out.")
            if path.exists() and not path.is_dir():
                raise LongigenError(f"{folder} is a file; name a new folder with --out.")
            if path.exists() and any(path.iterdir()):
                raise LongigenError(f"{folder} exists and is not empty; name a new folder with --out, or remove it.")
            with atomic_folder(path) as part:
                for name, text in self.files().items():
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    (part / name).write_text(text, encoding="utf-8")

    def _render(self, template: str) -> str:
        text = files("longigen.registry").joinpath("templates", f"{template}.template").read_text(encoding="utf-8")
        kind = TEMPLATES[self.kind]
        try_it = ["pip install -e .", *self.commands]
        try_it += [f"longigen train --recipe {self.recipe}"] if kind.has_recipe else []
        return Template(text).substitute(
            name=self.name,
            kind=self.kind,
            noun=kind.noun,
            distribution=self.distribution,
            package=self.package,
            class_name=self.class_name,
            recipe=self.recipe,
            recipes_too=f", and the recipe `{self.recipe}`" if kind.has_recipe else "",
            try_it="\n".join(f"    {line}" for line in try_it),
            dependencies=", ".join(f'"{name}"' for name in (f"{PREFIX}>={__version__}", *kind.dependencies)),
        )

    def _check_name(self) -> None:
        """Refuse a name that cannot be a component's and a package's."""
        if self.name != self.name.lower():
            raise LongigenError(f"'{self.name}' has upper-case letters; write '{self.name.lower()}'.")
        if self.name[:1].isdigit():
            raise LongigenError(f"'{self.name}' begins with a digit, which no Python package may; put a letter first.")
        invalid_name = name_problem(self.name)
        if invalid_name:
            raise LongigenError(f"{invalid_name}.")
        if len(self.name) > MAX_NAME_LENGTH:
            raise LongigenError(
                f"'{self.name}' has {len(self.name)} characters; choose a name of {MAX_NAME_LENGTH} or fewer."
            )
        if keyword.iskeyword(self.package):
            raise LongigenError(f"'{self.name}' is a keyword of Python and cannot be imported; choose another name.")
        if _as_yaml(self.name) != self.name:
            raise LongigenError(
                f"'{self.name}' is read as {_as_yaml(self.name)} in a registry.yaml; choose another name."
            )
        if self.name.startswith(PREFIX):
            rest = self.name.removeprefix(PREFIX).strip("-")
            advice = f"write '{rest}' (its distribution is named {PREFIX}-{rest})" if rest else "choose another name"
            raise LongigenError(
                f"'{self.name}' begins with '{PREFIX}', like the packages of longigen itself; {advice}."
            )

    def _check_not_taken(self) -> None:
        """Refuse a name that the registry, a distribution or a package has already."""
        for kind in KINDS:
            for claim in registry.entries(kind).get(self.name, []):
                owner = f"{claim.distribution} {claim.version}".strip()
                raise LongigenError(
                    f"'{self.name}' is taken: {owner} has a {TEMPLATES[kind].noun} of that name ({claim.reference}); "
                    "choose another."
                )
        catalog = Catalog()
        names = dict.fromkeys(CATALOG_SECTIONS, self.name)
        names["recipes"] = self.recipe if TEMPLATES[self.kind].has_recipe else self.name
        for section, name in names.items():
            described = catalog.describe(section, name)
            if described is not None:
                raise LongigenError(
                    f"'{self.name}' is taken: the registry.yaml of {described.distribution} has '{name}' among its "
                    f"{section}; choose another."
                )
        try:
            version = distribution(self.distribution).version
        except PackageNotFoundError:
            pass
        else:
            raise LongigenError(
                f"'{self.name}' is taken: {self.distribution} {version} is installed, which pip would replace; choose "
                "another."
            )
        if self.package in sys.stdlib_module_names:
            raise LongigenError(f"'{self.name}' is taken: Python has a module '{self.package}'; choose another.")
        spec = find_module(self.package)
        if spec is not None and spec.origin is not None:  # a folder without an __init__.py does not collide
            owners = packages_distributions().get(self.package) or [spec.origin]
            raise LongigenError(
                f"'{self.name}' is taken: {owners[0]} has a package '{self.package}', and only one of the two could be "
                "imported; choose another."
            )


def _as_yaml(text: str) -> object:
    """Return the value of a plain YAML scalar, such as True for ``on``."""
    import yaml

    return yaml.safe_load(text)
