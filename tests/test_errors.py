"""Messages: what is suggested for a name that does not exist, and what is escaped."""

import pytest

from longigen.errors import LongigenError, did_you_mean, printable

KEYS = ("lower", "upper", "learning_rate", "batch_size", "width", "steps", "acq_time", "acq_date", "heads")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "learning_rate"),
        ("LR", "learning_rate"),
        ("rate", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("batch-size", "batch_size"),
        ("bs", "batch_size"),
        ("Width", "width"),
        ("widht", "width"),
        ("hedas", "heads"),
        ("acq_time", "acq_date"),
        ("colour", None),
        ("x", None),
        ("", None),
    ],
)
def test_only_what_makes_sense_is_suggested(name: str, meant: str | None) -> None:
    assert did_you_mean(name, KEYS) == (f" Did you mean '{meant}'?" if meant else "")


def test_a_word_that_several_names_have_suggests_none() -> None:
    assert did_you_mean("count", ("subject_count", "number_of_visits_count")) == ""


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[31m\x07\x9b\u202eb\tc\nd é ×") == "a\\u001b[31m\\u0007\\u009b\\u202eb\tc\nd é ×"
    assert str(LongigenError("one\ntwo\r\x1b")) == "one two\\u000d\\u001b"


def test_what_somebody_wrote_without_end_is_shortened_in_its_middle() -> None:
    path = "/folder" * 60
    assert str(LongigenError(f"{path} is damaged.")) == f"{path} is damaged."
    assert str(LongigenError(f"The name {'x' * 9000} is unknown.")) == f"The name {'x' * 125}…{'x' * 125} is unknown."
    many = str(LongigenError(f"Columns: {'name, ' * 5000}; add one."))
    assert len(many) == 4001
    assert many.endswith("; add one.")
