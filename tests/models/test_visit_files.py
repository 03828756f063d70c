"""Files of generated visits, and when their spread is no uncertainty."""

import pytest

from longigen.models.visit_files import spread_caution


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((1, 1, 0.0), None), ((3, 9, 0.0), "identical"), ((3, 1, 0.5), "--steps"), ((3, 9, 0.5), None)],
)
def test_a_caution_if_the_spread_is_no_uncertainty(arguments: tuple[int, int, float], expected: str | None) -> None:
    line = spread_caution(*arguments)
    assert line is None if expected is None else expected in str(line)


def test_one_evaluation_is_a_draw_where_the_sampler_has_a_central_forecast() -> None:
    assert spread_caution(3, 1, 0.5, central=True) is None
    assert "identical" in str(spread_caution(3, 1, 0.0, central=True))
