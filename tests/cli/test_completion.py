"""Shell completion, as a shell asks for it: the installed command, told by the environment what was typed."""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from helpers.sites import Site
from longigen_cli.completion import WIDTH, names_in

LONGIGEN = Path(sysconfig.get_path("scripts")) / "longigen"


def ask(environment: dict[str, str], *command: str | Path) -> str:
    """Return what a process prints; it must end well, and say nothing on stderr."""
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    return result.stdout


def in_bash(typed: str) -> list[str]:
    """Return what bash is offered for the last word of what was typed, which may be empty."""
    words = typed.split(" ")
    environment = {"_LONGIGEN_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    return ask(environment, LONGIGEN).split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("longigen eva", ["evaluate"]),
        ("longigen train --cond", ["--conditioner"]),
        ("longigen train --conditioner s", ["sadm", "source"]),
        ("longigen train --denoiser un", ["unet3d"]),
        ("longigen train --sampler co", ["continuous"]),
        ("longigen train --recipe sadm-t", ["sadm-tiny"]),
        ("longigen train --data sim-", ["sim-brain", "sim-heart"]),
        ("longigen train --init additive-", ["additive-sim-brain"]),
        ("longigen pull sadm-sim-", ["sadm-sim-brain", "sadm-sim-heart"]),
        ("longigen generate sadm-sim-heart --sampler unip", ["unipc"]),
        ("longigen evaluate sadm-sim-heart --metric ssim", ["ssim", "ssim-foreground", "ssim-slice"]),
        ("longigen bench sadm-ab", ["sadm-ablation"]),
        ("longigen doctor nif", ["nifti4d"]),
        ("longigen info ident", ["identity"]),
        ("longigen check crp", ["crps"]),
        ("longigen list mo", ["models"]),
        ("longigen new-plugin mine --kind co", ["conditioner", "codec"]),
        ("longigen generate runs/", []),  # bash then offers files
    ],
)
def test_bash(typed: str, offered: list[str]) -> None:
    assert in_bash(typed) == offered


def test_fish_shows_summaries_of_one_line() -> None:
    typed = "longigen train --conditioner "
    environment = {"_LONGIGEN_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": typed}
    lines = ask({**environment, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, LONGIGEN).splitlines()
    offered = dict(line.split("\t") for line in lines)
    assert offered["sadm"].startswith("SADM's transformer")
    assert list(offered) == [name for name, _ in names_in("conditioners")("")]
    assert max(map(len, offered.values())) <= WIDTH


def test_zsh_shows_summaries() -> None:
    typed = "longigen train --denoiser une"
    offered = ask({"_LONGIGEN_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}, LONGIGEN)
    assert offered.startswith("""_arguments '*: :(("unet3d":""")
    typed = "longigen generate runs/"
    assert ask({"_LONGIGEN_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}, LONGIGEN).strip() == "_files"


def test_a_summary_is_no_markup(site: Site) -> None:
    index = "schema_version: 1\nrecipes:\n  odd: {summary: 'weights in [bold and [/nothing]'}\n"
    site.install("odd", {"longigen.registry": {"odd": "odd"}}, {"odd/__init__.py": "", "odd/registry.yaml": index})
    path = os.pathsep.join([str(site.folder), os.environ.get("PYTHONPATH", "")])
    environment = {"_LONGIGEN_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment |= {"_TYPER_COMPLETE_ARGS": "longigen train --recipe od", "PYTHONPATH": path}
    assert ask(environment, LONGIGEN) == "odd\tweights in [bold and [/nothing]\n"


def test_it_is_installed_into_a_shell(tmp_path: Path) -> None:
    """`--install-completion` writes what bash reads when it starts; the function that is defined there completes."""
    environment = {"HOME": str(tmp_path), "PATH": f"{LONGIGEN.parent}:{os.environ['PATH']}"}
    script = ask(environment, "bash", "--norc", "-c", "longigen --show-completion; true")
    assert "_LONGIGEN_COMPLETE=complete_bash" in script
    ask(environment, "bash", "--norc", "-c", "longigen --install-completion; true")
    code = f"source {shlex.quote(str(tmp_path / '.bashrc'))}; COMP_WORDS=(longigen train --conditioner sa); "
    code += "COMP_CWORD=3; _longigen_completion longigen; echo ${COMPREPLY[@]}"
    assert ask(environment, "bash", "--norc", "-c", code) == "sadm\n"


def test_nothing_heavy_is_loaded() -> None:
    """Names come from entry points and registry.yaml alone: neither torch nor a plugin is imported for them."""
    code = "import sys; sys.argv = ['longigen']; from longigen_cli.main import main\n"
    code += "try:\n    main()\nfinally:\n    print(*sys.modules)"
    for typed in ("longigen train --conditioner s", "longigen pull s", "longigen info s"):
        words = str(len(typed.split()) - 1)
        environment = {"_LONGIGEN_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": words}
        *offered, modules = ask(environment, sys.executable, "-c", code).splitlines()
        assert offered
        loaded = {name.partition(".")[0] for name in modules.split()}
        assert not loaded & {"torch", "numpy", "nibabel", "diffusers", "timm", "huggingface_hub"}
        assert {name for name in loaded if name.startswith("longigen_")} == {"longigen_cli"}


def test_python_m_is_the_command_line() -> None:
    """`python -m longigen` shows the commands that the installed `longigen` shows."""
    said = ask({}, sys.executable, "-m", "longigen", "--help")
    assert said.split("Options", 1)[1] == ask({}, LONGIGEN, "--help").split("Options", 1)[1]
