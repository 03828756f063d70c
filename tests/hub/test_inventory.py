"""What there is: listed and described without importing it."""

import json

from helpers.models import FIXTURE, publish
from helpers.sites import Site


def test_list_and_info_load_no_torch(site: Site) -> None:
    publish(site)
    for words in (["list", "models"], ["info", "tiny"], ["info", str(FIXTURE)]):
        assert site.python(
            f"import sys; sys.argv[1:] = {words}; sys.argv[0] = 'longigen'\n"
            "from longigen_cli.main import app\n"
            "app(standalone_mode=False)\n"
            "print('torch' in sys.modules)"
        ).endswith("False\n")


def test_list_and_info_report_an_invalid_entry(site: Site) -> None:
    publish(site, licence="")
    printed = site.longigen("list", "models", "--json")
    row = next(row for row in json.loads(printed)["models"] if row["name"] == "tiny")
    assert "must have the key 'licence'" in row["problem"]
    assert "must have the key 'licence'" in site.longigen("info", "tiny")
