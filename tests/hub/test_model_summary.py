"""What a model's files say of it."""

import time
from pathlib import Path

import pytest

from helpers.models import FIXTURE, model_folder
from longigen import LongigenWarning
from longigen.hub.model_summary import ModelSummary, card_licence

ALIASES = "x0: &x0 lol\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 26))
"""Values that would have 9^25 parts when they are printed."""


def test_summary_of_a_folder(tmp_path: Path) -> None:
    summary = ModelSummary.from_folder(model_folder(tmp_path / "model"))
    assert summary.line == (
        "3,708 parameters, 24.8 kB, sim-brain, simulated, full: psnr 43.43 (copy-last 41.44), cc-by-4.0"
    )
    assert summary.to_dict()["metrics"] == {"protocol": "17dfacfebf2e", "full": {"psnr": [43.43, 41.44]}}
    bare = ModelSummary.from_folder(FIXTURE)
    assert bare.line.endswith("licence not stated")
    assert "metrics" not in bare.to_dict()


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("license: mit", "mit"),
        ("tags: [a]\nlicense: 'my own: licence'\nother: 3", "my own: licence"),
        ("license:\n- mit\n", ""),
        ("license: [mit]", ""),
        ("licence: mit", ""),
        ("license: " + "[" * 50_000, ""),
        ("license: " + "x" * 1_000, ""),
        (ALIASES + "license: *x25", ""),
        ("- a", ""),
        ("[", ""),
    ],
)
def test_the_licence_of_a_card(tmp_path: Path, head: str, licence: str) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"---\n{head}\n---\n\nlicense: gpl\n")
    started = time.process_time()
    assert card_licence(card) == licence
    assert time.process_time() - started < 1
    card.write_text(f"# No head\n{head}\n")
    assert card_licence(card) == ""


@pytest.mark.parametrize(
    ("card", "problem"), [(b"---\nlicense: \xff\n---\n", "codec can't decode"), (b"x" * (2**20 + 1), "the limit")]
)
def test_a_card_that_cannot_be_read_is_a_sentence(tmp_path: Path, card: bytes, problem: str) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "README.md").write_bytes(card)
    with pytest.warns(LongigenWarning, match=rf"The model card .*README\.md is ignored \(.*{problem}"):
        assert ModelSummary.from_folder(folder).line.endswith("licence not stated")
