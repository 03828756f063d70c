"""A skeleton: a small package with a working component, for its author to change."""

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
from longigen.utils.files import atomic_folder, unwritable

LONGEST = 32
"""Letters of a name: code that holds it keeps to lines of 120."""

OWN = "longigen"
"""What the project's packages begin with, and no skeleton's."""


@dataclass(frozen=True)
class TemplateKind:
    """What skeletons of a kind differ in, beside the component: what it is called, needs, and is tried with."""

    noun: str
    dependencies: tuple[str, ...]
    use: str
    has_recipe: bool = True


SKELETONS: Mapping[str, TemplateKind] = {
    "conditioner": TemplateKind("conditioner", ("torch",), "longigen train --conditioner {name}"),
    "denoiser": TemplateKind("denoiser", ("torch",), "longigen train --denoiser {name}"),
    "sampler": TemplateKind("sampler", ("torch",), "longigen train --sampler {name}"),
    "dataset": TemplateKind("data set", ("numpy",), "longigen train --data {name}"),
    "metric": TemplateKind("metric", ("torch",), "longigen evaluate RUN --metric {name}", has_recipe=False),
}


@dataclass(frozen=True)
class PluginTemplate:
    """The package of one new component.

    A component ``my-denoiser`` comes in the distribution ``longigen-my-denoiser``, which pip installs, as the package
    ``my_denoiser``, which Python imports. So the distribution does not take a general name on PyPI, and the package
    cannot be one of the project's, which all begin with ``longigen``.

    Attributes:
        name: of the component.
        kind: one of `KINDS`.

    Raises:
        LongigenError: if the kind is unknown, the name is not lower-case letters, digits and hyphens, cannot be
            imported, or is taken: in the registry, as a distribution or as a package.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LongigenError(
                f"There is no kind '{self.kind}'.{did_you_mean(self.kind, KINDS)} Choose one of: {', '.join(KINDS)}."
            )
        self._require_name()
        self._require_free()

    @property
    def distribution(self) -> str:
        return f"{OWN}-{self.name}"

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
        """The name of the recipe that comes with it, where its kind has one."""
        return f"{self.name}-tiny"

    @property
    def uses(self) -> tuple[str, ...]:
        """The commands that check the component and put it to use, once it is installed."""
        return f"longigen check {self.name}", SKELETONS[self.kind].use.format(name=self.name)

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path in the package's folder."""
        return {
            "pyproject.toml": self._render("pyproject.toml"),
            "README.md": self._render("README.md"),
            f"src/{self.package}/__init__.py": self._render("__init__.py"),
            f"src/{self.package}/{self.kind}.py": self._render(f"{self.kind}/component.py"),
            f"src/{self.package}/registry.yaml": self._render(f"{self.kind}/registry.yaml"),
            f"tests/test_{self.package}.py": self._render(f"{self.kind}/test.py"),
        }

    def write(self, folder: Path) -> None:
        """Write the package into a new or empty folder: all of it, or nothing.

        Raises:
            LongigenError: if something is there, or it cannot be written.
        """
        with unwritable(folder):
            path = folder.resolve()
            if path == Path.cwd():
                raise LongigenError(f"{folder} is the folder you are in; name a new one with --out.")
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
        kind = SKELETONS[self.kind]
        try_it = ["pip install -e .", *self.uses]
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
            dependencies=", ".join(f'"{name}"' for name in (f"{OWN}>={__version__}", *kind.dependencies)),
        )

    def _require_name(self) -> None:
        """Refuse what is no name."""
        if self.name != self.name.lower():
            raise LongigenError(f"'{self.name}' has upper-case letters; write '{self.name.lower()}'.")
        if self.name[:1].isdigit():
            raise LongigenError(f"'{self.name}' begins with a digit, as no Python package may; put a letter first.")
        misnamed = name_problem(self.name)
        if misnamed:
            raise LongigenError(f"{misnamed}.")
        if len(self.name) > LONGEST:
            raise LongigenError(f"'{self.name}' has {len(self.name)} letters; choose a name of {LONGEST} or fewer.")
        if keyword.iskeyword(self.package):
            raise LongigenError(f"'{self.name}' is a keyword of Python and cannot be imported; choose another name.")
        if _yaml(self.name) != self.name:
            raise LongigenError(f"'{self.name}' means {_yaml(self.name)} in a registry.yaml; choose another name.")
        if self.name.startswith(OWN):
            rest = self.name.removeprefix(OWN).strip("-")
            advice = f"'{rest}' becomes the distribution {OWN}-{rest} by itself" if rest else "choose another"
            raise LongigenError(f"'{self.name}' begins with '{OWN}', as the project's own packages do; {advice}.")

    def _require_free(self) -> None:
        """Refuse a name that somebody has."""
        for kind in KINDS:
            for claim in registry.entries(kind).get(self.name, []):
                owner = f"{claim.distribution} {claim.version}".strip()
                raise LongigenError(
                    f"'{self.name}' is taken: {owner} has a {SKELETONS[kind].noun} of that name ({claim.reference}); "
                    "choose another."
                )
        catalog = Catalog()
        names = dict.fromkeys(CATALOG_SECTIONS, self.name)
        names["recipes"] = self.recipe if SKELETONS[self.kind].has_recipe else self.name
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
        if spec is not None and spec.origin is not None:  # a folder without an __init__.py is in nobody's way
            owners = packages_distributions().get(self.package) or [spec.origin]
            raise LongigenError(
                f"'{self.name}' is taken: {owners[0]} has a package '{self.package}', and only one of the two could be "
                "imported; choose another."
            )


def _yaml(text: str) -> object:
    import yaml

    return yaml.safe_load(text)
