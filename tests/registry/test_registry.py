"""Tests of the registry with distributions on disk: found without import, and each kind of broken plugin."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import longigen
from helpers.sites import SCALE, Site
from longigen import (
    Conditioning,
    Denoiser,
    LongigenError,
    Metric,
    Routes,
    register_denoiser,
    register_metric,
)
from longigen.registry.registry import KINDS, registry


def problems(listed: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {row["name"]: row["problem"] for rows in listed.values() for row in rows if "problem" in row}


def test_third_party_component_is_listed_without_import(site: Site) -> None:
    site.install(
        "stranger",
        {"longigen.denoisers": {"scale": "strange:Scale"}, "longigen.registry": {"stranger": "strange"}},
        {
            "strange/__init__.py": SCALE,
            "strange/registry.yaml": "schema_version: 1\ndenoisers: {scale: {summary: one factor}}\n",
        },
    )
    listed = json.loads(site.longigen("list", "--json"))
    assert {"name": "scale", "distribution": "stranger 1.0", "summary": "one factor"} in listed["denoisers"]
    assert problems(listed) == {}
    assert "stranger 1.0 (strange:Scale)" in site.longigen("info", "scale")
    assert not (site.folder / "strange" / "imported").exists()

    scale = registry.load("denoiser", "scale")
    assert (site.folder / "strange" / "imported").exists()
    component = scale(gain=3)
    assert isinstance(component, Denoiser)
    assert component.config == {"gain": 3.0}
    assert registry.name_of(component) == "scale"


@pytest.mark.parametrize(("name", "owners"), [("scale", ("one", "two")), ("unet3d", ("one", "two", "longigen"))])
def test_name_claimed_by_several_distributions(site: Site, name: str, owners: tuple[str, ...]) -> None:
    for distribution in ("one", "two"):
        site.install(
            distribution, {"longigen.denoisers": {name: f"of_{distribution}:Scale"}}, {f"of_{distribution}.py": SCALE}
        )
    site.install("other", {"longigen.denoisers": {"other": "of_other:Scale"}}, {"of_other.py": SCALE})
    for use in (registry.entry, registry.load):
        with pytest.raises(LongigenError, match=f"denoiser '{name}' is claimed by") as caught:
            use("denoiser", name)
        assert all(f"{owner} (" in str(caught.value) for owner in owners)
    listed = json.loads(site.longigen("list", "--json"))
    claims = [row for row in listed["denoisers"] if row["name"] == name]
    assert {row["distribution"].partition(" ")[0] for row in claims} == set(owners)
    assert all(owner in row["problem"] for row in claims for owner in owners)
    assert set(problems(listed)) == {name}
    assert registry.load("denoiser", "other").__name__ == "Scale"


BROKEN: dict[str, tuple[str, dict[str, str], str]] = {
    "missing-package": (
        "bad:Scale",
        {"bad.py": "import no_such_package.part\n" + SCALE},
        "it needs the package 'no_such_package', which is not installed",
    ),
    "missing-package-from": (
        "bad:Scale",
        {"bad.py": "from absent import x\n" + SCALE},
        "it needs the package 'absent'",
    ),
    "syntax": ("bad:Scale", {"bad.py": "def broken(:\n"}, r"bad\.py cannot be read as Python \(.*line 1"),
    "not-text": ("bad:Scale", {"bad.py": "\0"}, r"bad\.py cannot be read as Python"),
    "no-module": ("bad:Scale", {}, "there is no module 'bad'"),
    "no-submodule": ("bad.net:Scale", {"bad/__init__.py": ""}, r"there is no module 'bad\.net'"),
    "no-class": ("bad:Skale", {"bad.py": SCALE}, "'bad' defines no 'Skale'"),
    "not-a-reference": ("bad-module:Scale", {"bad.py": SCALE}, "'bad-module:Scale' is not of the form module:class"),
    "missing-package-in-submodule": (
        "bad:Scale",
        {"bad/__init__.py": "from bad.net import Scale\n", "bad/net.py": "import absent\n" + SCALE},
        "it needs the package 'absent'",
    ),
    "syntax-in-submodule": (
        "bad:Scale",
        {"bad/__init__.py": "from .net import Scale\n", "bad/net.py": "class Scale:\n"},
        r"net\.py cannot be read as Python",
    ),
    "missing-package-in-imported-submodule": (
        "bad:Scale",
        {"bad/__init__.py": "from . import net\n" + SCALE, "bad/net.py": "import absent\n"},
        "it needs the package 'absent'",
    ),
    "missing-package-in-parent": (
        "bad.net:Scale",
        {"bad/__init__.py": "import absent\n", "bad/net.py": SCALE},
        "it needs the package 'absent'",
    ),
    "beyond-the-top": ("bad:Scale", {"bad.py": "from ..other import x\n" + SCALE}, r"bad\.py cannot be imported"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_does_not_affect_others(site: Site, case: str) -> None:
    reference, files, reason = BROKEN[case]
    site.install("breaker", {"longigen.denoisers": {"breaking": reference}}, files)
    site.install("other", {"longigen.denoisers": {"other": "of_other:Scale"}}, {"of_other.py": SCALE})
    found = {
        entry.name: entry.problem() for kind in KINDS for claims in registry.entries(kind).values() for entry in claims
    }
    broken = {name: problem for name, problem in found.items() if problem}
    assert list(broken) == ["breaking"]
    assert re.search(reason, broken["breaking"] or "")
    assert not (site.folder / "of_other" / "imported").exists()
    with pytest.raises(LongigenError, match=r"'breaking' of breaker 1\.0 cannot be loaded \(\w+: .*uninstall breaker"):
        registry.load("denoiser", "breaking")
    other = registry.load("denoiser", "other")
    assert registry.name_of(other()) == "other"
    assert registry.name_of(registry.load("sampler", "continuous")()) == "continuous"


def test_list_reports_broken_plugin(site: Site) -> None:
    site.install("breaker", {"longigen.samplers": {"breaking": "bad:S"}}, {"bad.py": "from absent import S\n"})
    listed = json.loads(site.longigen("list", "--json"))
    assert problems(listed) == {"breaking": "it needs the package 'absent', which is not installed"}
    assert "broken: it needs the package 'absent'" in " ".join(site.longigen("list", "samplers").split())
    assert "absent" in site.longigen("info", "breaking")


@pytest.mark.parametrize(
    ("reference", "files"),
    [
        ("fine:Scale", {"fine.py": "try:\n    import absent\nexcept ImportError:\n    absent = None\n" + SCALE}),
        ("fine:Scale", {"fine.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import absent\n" + SCALE}),
        ("fine:Scale", {"fine/__init__.py": "from fine.net import *\n", "fine/net.py": SCALE}),
        ("fine:Scale", {"fine/__init__.py": "from .net import Scale\n", "fine/net.py": "import fine\n" + SCALE}),
        (
            "fine:Scale",
            {
                "fine/__init__.py": "try:\n    from fine.fast import Scale\nexcept ImportError:\n"
                "    from fine.slow import Scale\n",
                "fine/fast.py": "import absent\n",
                "fine/slow.py": SCALE,
            },
        ),
        ("fine.part.net:Scale", {"fine/part/net.py": SCALE}),
        ("fine:Holder.Scale", {"fine.py": SCALE + "\n\nclass Holder:\n    Scale = Scale\n"}),
    ],
    ids=["optional", "typing", "star", "circular", "either", "namespace", "nested"],
)
def test_working_plugin_has_no_problem(site: Site, reference: str, files: dict[str, str]) -> None:
    site.install("worker", {"longigen.denoisers": {"works": reference}}, files)
    assert registry.entry("denoiser", "works").problem() is None
    assert registry.load("denoiser", "works").__name__ == "Scale"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SCALE.replace("*, gain: float = 1.0", "**given"), r"\*\*given hides what can be configured"),
        (SCALE.replace("*, gain: float", "gain: float"), "'gain' must be keyword-only"),
        (SCALE.replace("(Denoiser)", ""), r"is not a subclass of longigen\.Denoiser"),
        (SCALE.replace("def forward", "def foward"), "does not define forward; it must"),
        (SCALE.replace(", routes):", "):"), r"Scale\.build does not take 'routes'"),
        (
            SCALE.replace("gain: float", "gain: list[float]"),
            r"'gain' is list\[float\], which a configuration cannot hold",
        ),
        ("Scale = 3\n", r"\(3\) is not a subclass of longigen\.Denoiser"),
    ],
    ids=["kwargs", "positional", "other-class", "abstract", "signature", "annotation", "no-class"],
)
def test_class_that_breaks_the_contract_is_refused(site: Site, source: str, message: str) -> None:
    site.install("breaker", {"longigen.denoisers": {"breaking": "bad:Scale"}}, {"bad.py": source})
    with pytest.raises(LongigenError, match=message):
        registry.load("denoiser", "breaking")


@pytest.mark.parametrize(
    ("name", "advice"),
    [("Bad Name", "write 'bad-name'"), ("bad_name", "write 'bad-name'"), ("-", "choose one such as my-denoiser")],
)
def test_invalid_name_is_marked_and_refused(site: Site, name: str, advice: str) -> None:
    site.install("breaker", {"longigen.denoisers": {name: "fine:Scale"}}, {"fine.py": SCALE})
    sentence = f"'{name}' is not a name of lower-case letters, digits and single hyphens; {advice}"
    assert problems(json.loads(site.longigen("list", "--json"))) == {name: sentence}
    for use in (registry.entry, registry.load):
        with pytest.raises(LongigenError) as caught:
            use("denoiser", name)
        assert str(caught.value) == f"The denoiser of breaker cannot be used: {sentence}."


def test_unknown_name() -> None:
    with pytest.raises(LongigenError, match=r"no denoiser 'unet3'\. Did you mean 'unet3d'\? Installed: .*unet3d"):
        registry.load("denoiser", "unet3")
    with pytest.raises(LongigenError, match=r"no sampler 'qqqqqq'\. Installed:"):
        registry.entry("sampler", "qqqqqq")


class Half(Denoiser):
    def build(self, *, channels: int, routes: Routes) -> None:
        pass

    def forward(self, z_t: Tensor, log_snr: Tensor, conditioning: Conditioning) -> Tensor:
        return z_t / 2


class TestDecorator:
    @pytest.fixture(autouse=True)
    def _forget(self) -> Iterator[None]:
        yield
        if ("denoiser", "mine") in registry._registered:
            registry.unregister("denoiser", "mine")

    def test_decorator_registers_for_this_process(self) -> None:
        assert register_denoiser("mine")(Half) is Half
        assert registry.load("denoiser", "mine") is Half
        assert registry.name_of(Half()) == "mine"
        entry = registry.entry("denoiser", "mine")
        assert (entry.distribution, entry.problem()) == ("this process", None)
        registry.unregister("denoiser", "mine")
        with pytest.raises(LongigenError, match="no denoiser 'mine'"):
            registry.load("denoiser", "mine")
        with pytest.raises(LongigenError, match="Half is not registered as a denoiser"):
            registry.name_of(Half())

    def test_running_a_notebook_cell_again_replaces_the_class(self) -> None:
        def cell() -> type[Denoiser]:
            @register_denoiser("mine")
            class Mine(Half):
                pass

            return Mine

        first, second = cell(), cell()
        assert first is not second
        assert registry.load("denoiser", "mine") is second

    def test_name_that_is_taken(self) -> None:
        register_denoiser("mine")(Half)
        with pytest.raises(LongigenError, match=r"'mine' is already claimed by this process \(.*:Half\)"):
            register_denoiser("mine")(type("Other", (Half,), {}))
        with pytest.raises(LongigenError, match="'unet3d' is already claimed by longigen"):
            register_denoiser("unet3d")(Half)
        assert registry.load("denoiser", "mine") is Half
        assert registry.load("denoiser", "unet3d").__name__ == "UNet3D"

    @pytest.mark.parametrize("name", ["Bad Name", "Mine", "my_own", "my--own", "-mine", "größe", "a/b", ""])
    def test_invalid_name(self, name: str) -> None:
        with pytest.raises(LongigenError, match=r"The denoiser cannot be registered: '.*' is not a name of lower-case"):
            register_denoiser(name)
        assert name not in registry.entries("denoiser")

    def test_class_that_breaks_the_contract(self) -> None:
        with pytest.raises(LongigenError, match=r"not a subclass of longigen\.Denoiser"):
            register_denoiser("mine")(dict)
        with pytest.raises(LongigenError, match="does not define build, forward"):
            register_denoiser("mine")(type("Empty", (Denoiser,), {}))
        with pytest.raises(LongigenError, match=r"not a subclass of longigen\.Metric"):
            register_metric("mine")(Half)
        assert not {"mine"} & {*registry.entries("denoiser"), *registry.entries("metric")}

    def test_same_name_in_another_kind(self) -> None:
        class Mean(Metric):
            @property
            def definition(self) -> str:
                return "the mean"

            def __call__(self, generated: Tensor, true: Tensor, previous: Tensor, foreground: Tensor) -> float:
                return float(generated.mean())

        register_denoiser("mine")(Half)
        register_metric("mine")(Mean)
        try:
            assert registry.load("metric", "mine") is Mean
            assert registry.name_of(Half()) == registry.name_of(Mean()) == "mine"
        finally:
            registry.unregister("metric", "mine")


HEAVY = ("torch", "numpy", "nibabel", "diffusers", "timm")


@pytest.mark.parametrize(
    "words",
    [(), ("--help",), ("list",), ("info", "sadm"), ("info", "sadm-tiny"), ("train", "--help")],
    ids=lambda words: "-".join(words) or "import",
)
def test_import_help_list_and_info_load_no_torch(tmp_path: Path, words: tuple[str, ...]) -> None:
    heavy = HEAVY if "--help" in words else (*HEAVY, "rich")
    code = f"""\
import sys
import longigen
sys.argv[1:] = {list(words)}
if sys.argv[1:]:
    from longigen_cli.main import main
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
plugins = [name for name in sys.modules if name.startswith("longigen_") and not name.startswith("longigen_cli")]
print("loaded:", sorted({{*{heavy}}} & set(sys.modules)) + plugins)
"""
    assert Site(tmp_path).python(code).splitlines()[-1] == "loaded: []"


def test_every_public_name_can_be_imported() -> None:
    for name in longigen.__all__:
        assert getattr(longigen, name) is not None
    assert {*longigen.__all__} - {"__version__"} == set(dir(longigen))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        longigen.Nothing  # noqa: B018
