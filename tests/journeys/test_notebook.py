"""The notebook of the documentation runs from top to bottom, with an empty HOME and without a network."""

import ast
import re

import pytest

from helpers.files import ROOT

nbclient = pytest.importorskip("nbclient", reason="the notebook is run by nbclient: pip install nbclient ipykernel")
kernelspec = pytest.importorskip(
    "ipykernel.kernelspec", reason="the notebook is run in ipykernel: pip install nbclient ipykernel"
)
nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat: pip install nbformat")

NOTEBOOK = ROOT / "docs" / "forecast.ipynb"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the output of the last line of each cell, by cell id and MIME type."""
    home = tmp_path_factory.mktemp("home")
    kernelspec.write_kernel_spec(home / "jupyter" / "kernels" / "python3")  # uses this interpreter
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
            patch.setenv(name, str(home))
        patch.setenv("JUPYTER_PATH", str(home / "jupyter"))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, NOWHERE)
        nbclient.NotebookClient(
            notebook, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(home)}}
        ).execute()
    shown = {}
    for cell in notebook.cells:
        results = [output["data"] for output in cell.get("outputs", ()) if output["output_type"] == "execute_result"]
        if results:
            shown[cell["id"]] = results[-1]
    return shown


def test_it_shows_a_forecast(outputs: dict[str, dict[str, str]]) -> None:
    assert outputs["forecast"]["text/plain"] == "Forecast(baseline, at 2 years, 3 samples)"
    assert "image/png" in outputs["plot"]


def test_it_writes_samples_mean_and_standard_deviation(outputs: dict[str, dict[str, str]]) -> None:
    written = ast.literal_eval(outputs["save"]["text/plain"])
    volumes = ["desc-mean", "desc-std", *(f"run-{number}_desc-synthetic" for number in (1, 2, 3))]
    stem = "sub-baseline_ses-2years"
    assert written == [f"{stem}_{name}_T1w{suffix}" for name in volumes for suffix in (".json", ".nii.gz")]


def test_the_forecast_is_nearer_to_the_truth_than_the_last_visit(outputs: dict[str, dict[str, str]]) -> None:
    errors = ast.literal_eval(outputs["truth"]["text/plain"])
    assert errors["forecast, mean of the samples"] < errors["copy of the last visit"]


def test_it_runs_the_lines_of_the_readme() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    run = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (printed,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    for line in printed.splitlines():
        code = line.partition("  #")[0].replace("samples=8, steps=10", "samples=3, steps=4")
        assert code.strip() in run, f"the notebook does not run {code!r}"
