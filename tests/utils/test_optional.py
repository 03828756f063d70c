"""Packages that are used where they are installed."""

import json

import pytest

from longigen import LongigenError
from longigen.utils.optional import optional_import


def test_an_installed_package_is_imported() -> None:
    assert optional_import("json", "this") is json


def test_a_missing_one_is_named_with_what_needs_it() -> None:
    with pytest.raises(LongigenError, match=r"Evaluation\.to_pandas needs no_such_package; install it with 'pip"):
        optional_import("no_such_package", "Evaluation.to_pandas")
