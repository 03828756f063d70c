"""Tests of longigen.utils.optional."""

import json

import pytest

from longigen import LongigenError
from longigen.utils.optional import optional_import


def test_installed_package_is_imported() -> None:
    assert optional_import("json", "this") is json


def test_error_names_missing_package_and_its_user() -> None:
    with pytest.raises(LongigenError, match=r"Evaluation\.to_pandas needs no_such_package; install it with 'pip"):
        optional_import("no_such_package", "Evaluation.to_pandas")
