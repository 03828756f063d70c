"""Data sets by name and by path."""

from pathlib import Path

import pytest

from helpers.sites import Site
from longigen import LongigenError
from longigen.data.open_dataset import find_dataset
from longigen.training.recipe import Recipe

NAME = "sadm-tiny"


def test_a_path_is_read_by_the_data_set_that_claims_it(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("subject,time,path\n")
    assert find_dataset(str(manifest)) == ("csv", {"path": str(manifest)})
    assert find_dataset("sim-brain") == ("sim-brain", {})
    recipe = Recipe.resolve(NAME, data=str(manifest), changes=["time_unit=days"])
    assert recipe.names["data"] == "csv"
    assert str(recipe.configs["data"]["path"]) == str(manifest)
    assert recipe.configs["data"]["time_unit"] == "days"


def test_data_that_do_not_exist_or_are_not_recognised(tmp_path: Path) -> None:
    with pytest.raises(
        LongigenError, match=r"neither a data set nor a path named 'sim-brian'\. Did you mean 'sim-brain'\?"
    ):
        find_dataset("sim-brian")
    (tmp_path / "notes.unknown").write_text("")
    with pytest.raises(LongigenError, match=r"No data set recognises .*notes\.unknown; choose one as NAME:"):
        find_dataset(str(tmp_path / "notes.unknown"))


def test_a_broken_data_set_hinders_no_other(site: Site) -> None:
    greedy = """\
from longigen import Dataset


class Greedy(Dataset):
    def subjects(self, bad=None):
        return []

    @classmethod
    def claims(cls, path):
        return path.suffix == ".csv" and path.stem == "both"
"""
    site.install("breaker", {"longigen.datasets": {"a-broken": "bad:Data"}}, {"bad.py": "import absent\n"})
    site.install("greedy", {"longigen.datasets": {"greedy": "greed:Greedy"}}, {"greed.py": greedy})
    for name in ("m.csv", "both.csv", "m.unknown"):
        (site.folder / name).write_text("subject,time,path\n")
    assert find_dataset(str(site.folder / "m.csv"))[0] == "csv"
    with pytest.raises(LongigenError, match=r"m\.unknown; .* The dataset 'a-broken' of breaker 1\.0 cannot be loaded"):
        find_dataset(str(site.folder / "m.unknown"))
    both = site.folder / "both.csv"
    with pytest.raises(
        LongigenError, match=r"both\.csv can be read by .* csv and greedy; .* csv:.*both\.csv or greedy:"
    ):
        find_dataset(str(both))
    assert find_dataset(f"greedy:{both}") == ("greedy", {"path": str(both)})
    assert find_dataset(f"csv:{both}") == ("csv", {"path": str(both)})
    with pytest.raises(LongigenError, match=r"There is no path '.*gone\.csv'"):
        find_dataset(f"csv:{site.folder / 'gone.csv'}")
