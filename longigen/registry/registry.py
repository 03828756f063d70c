"""The component registry: list installed components without importing them, and load a component's class by name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

from longigen.components.base import Component
from longigen.errors import LongigenError, did_you_mean
from longigen.registry.packages import (
    ImportProblem,
    extra_with,
    find_import_problem,
    installed_entry_points,
)

KINDS = ("conditioner", "denoiser", "sampler", "codec", "dataset", "metric", "segmenter")
"""The kinds of component; the entry-point group of a kind is ``longigen.<kind>s``."""

T = TypeVar("T", bound=type)

INTERACTIVE = "this process"
"""Shown as the distribution of a component that was registered with a decorator."""


@dataclass(frozen=True)
class RegistryEntry:
    """One registration of a component name: by an installed distribution's entry point, or by a decorator."""

    kind: str
    name: str
    distribution: str
    version: str
    target: EntryPoint | type

    @property
    def reference(self) -> str:
        """The class as ``module:name``."""
        if isinstance(self.target, EntryPoint):
            return self.target.value
        return f"{self.target.__module__}:{self.target.__qualname__}"

    def problem(self) -> str | None:
        """Return why the component cannot be loaded, found without running its code; None if no problem is found."""
        problem = self._problem
        if problem is None:
            return None
        return f"{problem.text}; pip install '{self.extra}'" if self.extra else problem.text

    @property
    def extra(self) -> str | None:
        """The extra to install, such as ``longigen[monai]``, if only a package of that extra is missing."""
        problem = self._problem
        if problem is None or not problem.package or not isinstance(self.target, EntryPoint):
            return None
        return extra_with(self.target, problem.package)

    @property
    def _problem(self) -> ImportProblem | None:
        invalid_name = name_problem(self.name)
        if invalid_name:
            return ImportProblem(invalid_name)
        if not isinstance(self.target, EntryPoint):
            return None
        try:
            module, attribute = self.target.module, self.target.attr
        except AttributeError:  # raised by importlib.metadata for an invalid reference
            return ImportProblem(f"'{self.target.value}' is not of the form module:class")
        return find_import_problem(module, attribute)


class Registry:
    """All registered components: from the entry points of installed distributions and from decorators."""

    def __init__(self) -> None:
        self._registered: dict[tuple[str, str], RegistryEntry] = {}

    def entries(self, kind: str) -> dict[str, list[RegistryEntry]]:
        """Return the entries of each name of a kind, sorted by name; more than one is a conflict. Imports nothing."""
        found: dict[str, list[RegistryEntry]] = {}
        for point, distribution, version in installed_entry_points(f"longigen.{kind}s"):
            found.setdefault(point.name, []).append(RegistryEntry(kind, point.name, distribution, version, point))
        for (entry_kind, name), entry in self._registered.items():
            if entry_kind == kind:
                found.setdefault(name, []).append(entry)
        return dict(sorted(found.items()))

    def entry(self, kind: str, name: str) -> RegistryEntry:
        """Return the entry of a name.

        Raises:
            LongigenError: if no distribution registers the name, more than one does, or the name is invalid.
        """
        known = self.entries(kind)
        if name not in known:
            raise LongigenError(
                f"There is no {kind} '{name}'.{did_you_mean(name, known)} Installed: {', '.join(known) or 'none'}."
            )
        claims = known[name]
        if len(claims) > 1:
            owners = " and by ".join(f"{claim.distribution} ({claim.reference})" for claim in claims)
            raise LongigenError(
                f"The {kind} '{name}' is claimed by {owners}; uninstall one of them, or ask its author for "
                "another name."
            )
        invalid_name = name_problem(name)
        if invalid_name:
            raise LongigenError(f"The {kind} of {claims[0].distribution} cannot be used: {invalid_name}.")
        return claims[0]

    def load(self, kind: str, name: str) -> type[Any]:
        """Import and return the class of a component.

        Raises:
            LongigenError: as `entry`; also if the plugin cannot be imported or its class breaks the contract of a
                component. Other components are not affected.
        """
        entry = self.entry(kind, name)
        if not isinstance(entry.target, EntryPoint):
            return entry.target
        try:
            cls = entry.target.load()
        except Exception as error:
            if entry.extra:
                raise LongigenError(f"The {kind} '{name}' cannot be loaded: {entry.problem()}.") from error
            raise LongigenError(
                f"The {kind} '{name}' of {entry.distribution} {entry.version} cannot be loaded "
                f"({type(error).__name__}: {error}); repair or uninstall {entry.distribution}."
            ) from error
        _check_class(kind, name, cls)
        return cls

    def make(self, kind: str, name: str, config: Mapping[str, Any] | None = None) -> Any:
        """Create a component from its name and configuration.

        Args:
            kind: one of `KINDS`.
            name: name of the component.
            config: parameters by name; the others have their defaults.

        Raises:
            LongigenError: as `load`; also for an unknown parameter or an invalid value.
        """
        return self.load(kind, name).from_config(config or {}, f"The {kind} '{name}'")

    def register(self, kind: str, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class for this process.

        Running the same definition again, as in a notebook, replaces it. A name that another class has is refused.

        Raises:
            LongigenError: if the name is taken or has other characters than lower-case letters, digits and single
                hyphens, or the class breaks the contract of a component.
        """
        invalid_name = name_problem(name)
        if invalid_name:
            raise LongigenError(f"The {kind} cannot be registered: {invalid_name}.")

        def decorate(cls: T) -> T:
            _check_class(kind, name, cls)
            entry = RegistryEntry(kind, name, INTERACTIVE, "", cls)
            for claim in self.entries(kind).get(name, []):
                if claim.distribution != INTERACTIVE or claim.reference != entry.reference:
                    raise LongigenError(
                        f"The {kind} '{name}' is already claimed by {claim.distribution} ({claim.reference}); "
                        "register yours under another name."
                    )
            self._registered[kind, name] = entry
            return cls

        return decorate

    def unregister(self, kind: str, name: str) -> None:
        """Remove a component that was registered with a decorator."""
        del self._registered[kind, name]

    def name_of(self, component: object) -> str:
        """Return the name under which a component's class is registered.

        Raises:
            LongigenError: if the class is not registered, since a model saved with it could not be loaded.
        """
        cls = type(component)
        kind = cls.kind  # type: ignore[attr-defined]
        for name, claims in self.entries(kind).items():
            for claim in claims:
                if claim.target is cls or (isinstance(claim.target, EntryPoint) and _refers_to(claim.target, cls)):
                    return name
        raise LongigenError(
            f"{cls.__qualname__} is not registered as a {kind}; register it with @register_{kind}('name'), or by an "
            f"entry point in the group longigen.{kind}s."
        )


registry: Registry = Registry()
"""The registry of this process."""


def register_conditioner(name: str) -> Callable[[T], T]:
    """Register a conditioner for this process: ``@register_conditioner("mine")``."""
    return registry.register("conditioner", name)


def register_denoiser(name: str) -> Callable[[T], T]:
    """Register a denoiser for this process."""
    return registry.register("denoiser", name)


def register_sampler(name: str) -> Callable[[T], T]:
    """Register a sampler for this process."""
    return registry.register("sampler", name)


def register_codec(name: str) -> Callable[[T], T]:
    """Register a codec for this process."""
    return registry.register("codec", name)


def register_dataset(name: str) -> Callable[[T], T]:
    """Register a data set for this process."""
    return registry.register("dataset", name)


def register_metric(name: str) -> Callable[[T], T]:
    """Register a metric for this process."""
    return registry.register("metric", name)


def register_segmenter(name: str) -> Callable[[T], T]:
    """Register a segmenter for this process."""
    return registry.register("segmenter", name)


def name_problem(name: str) -> str | None:
    """Return why a component's name is invalid and what to write instead; None if it is valid.

    A valid name has lower-case letters, digits and single hyphens only.
    """
    if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        return None
    corrected = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    advice = f"write '{corrected}'" if re.match("[a-z]", corrected) else "choose one such as my-denoiser"
    return f"'{name}' is not a name of lower-case letters, digits and single hyphens; {advice}"


def _check_class(kind: str, name: str, cls: Any) -> None:
    interface = cls.interface() if isinstance(cls, type) and issubclass(cls, Component) else None
    if interface is None or interface.kind != kind:
        raise LongigenError(
            f"The {kind} '{name}' ({cls!r}) is not a subclass of longigen.{kind.capitalize()}; derive it from that "
            "class."
        )
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise LongigenError(f"The {kind} '{name}' ({cls.__qualname__}) does not define {', '.join(missing)}; it must.")


def _refers_to(point: EntryPoint, cls: type) -> bool:
    """Return whether an entry point refers to a class; it is imported only if its package is that of the class."""
    try:
        return point.module.partition(".")[0] == cls.__module__.partition(".")[0] and point.load() is cls
    except Exception:  # a plugin that cannot be imported is not this class
        return False
