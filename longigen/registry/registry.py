"""The registry: which components are installed, without importing them, and the class behind a name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

from longigen.components.base import Component
from longigen.errors import LongigenError, did_you_mean
from longigen.registry.packages import Problem, distribution_of, extra_with, installed_entry_points, problem_of

KINDS = ("conditioner", "denoiser", "sampler", "dataset", "metric")
"""The kinds of component; the entry-point group of a kind is ``longigen.<kind>s``."""

T = TypeVar("T", bound=type)

INTERACTIVE = "this process"
"""Stands for the distribution of a component that was registered with a decorator."""


@dataclass(frozen=True)
class RegistryEntry:
    """One claim to a name: by an installed distribution, or by a decorator in this process."""

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
        """Say what keeps the component from loading, as far as that can be seen without running any of its code."""
        found = self._problem
        if found is None:
            return None
        return f"{found.text}; pip install '{self.extra}'" if self.extra else found.text

    @property
    def extra(self) -> str | None:
        """The extra to install, as ``longigen[monai]``, if a package that it brings is all that is missing."""
        found = self._problem
        if found is None or not found.package or not isinstance(self.target, EntryPoint):
            return None
        return extra_with(self.target, found.package)

    @property
    def _problem(self) -> Problem | None:
        if not isinstance(self.target, EntryPoint):
            return None
        try:
            module, attribute = self.target.module, self.target.attr
        except AttributeError:  # what importlib.metadata makes of it
            return Problem(f"'{self.target.value}' is not of the form module:class")
        return problem_of(module, attribute)


class Registry:
    """Entries from the installed distributions' entry points and from this process's decorators."""

    def __init__(self) -> None:
        self._registered: dict[tuple[str, str], RegistryEntry] = {}

    def entries(self, kind: str) -> dict[str, list[RegistryEntry]]:
        """Return the claims of each name of a kind, sorted by name; more than one claim is a clash. Imports nothing."""
        found: dict[str, list[RegistryEntry]] = {}
        for point in installed_entry_points(f"longigen.{kind}s"):
            distribution, version = distribution_of(point)
            found.setdefault(point.name, []).append(RegistryEntry(kind, point.name, distribution, version, point))
        for (entry_kind, name), entry in self._registered.items():
            if entry_kind == kind:
                found.setdefault(name, []).append(entry)
        return dict(sorted(found.items()))

    def entry(self, kind: str, name: str) -> RegistryEntry:
        """Return the one claim to a name.

        Raises:
            LongigenError: if nobody claims the name, or more than one distribution does.
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
        return claims[0]

    def load(self, kind: str, name: str) -> type[Any]:
        """Import and return the class behind a name.

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
                f"({type(error).__name__}: {error}); mend or uninstall {entry.distribution}."
            ) from error
        _check_class(kind, name, cls)
        return cls

    def register(self, kind: str, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class for this process.

        Running the same definition again (a notebook's cell) replaces it. A name that something else claims is refused.

        Raises:
            LongigenError: if the name is taken, or the class breaks the contract of a component.
        """

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
        """Forget a component that was registered with a decorator."""
        del self._registered[kind, name]

    def name_of(self, component: object) -> str:
        """Return the name under which a component's class is registered.

        Raises:
            LongigenError: if it is not registered, so that a saved model could not be loaded again.
        """
        cls = type(component)
        kind = cls.kind  # type: ignore[attr-defined]
        for name, claims in self.entries(kind).items():
            for claim in claims:
                if claim.target is cls or (isinstance(claim.target, EntryPoint) and _names(claim.target, cls)):
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


def register_dataset(name: str) -> Callable[[T], T]:
    """Register a data set for this process."""
    return registry.register("dataset", name)


def register_metric(name: str) -> Callable[[T], T]:
    """Register a metric for this process."""
    return registry.register("metric", name)


def _check_class(kind: str, name: str, cls: Any) -> None:
    interface = cls.interface() if isinstance(cls, type) and issubclass(cls, Component) else None
    if interface is None or interface.kind != kind:
        raise LongigenError(
            f"The {kind} '{name}' ({cls!r}) is not a subclass of longigen.{kind.capitalize()}; derive it."
        )
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise LongigenError(f"The {kind} '{name}' ({cls.__qualname__}) does not define {', '.join(missing)}; it must.")


def _names(point: EntryPoint, cls: type) -> bool:
    """Say whether an entry point names a class, importing it only if its package is the class's own."""
    try:
        return point.module.partition(".")[0] == cls.__module__.partition(".")[0] and point.load() is cls
    except Exception:  # a plugin that does not load is not this class
        return False
