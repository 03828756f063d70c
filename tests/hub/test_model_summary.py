"""What a model's files say of it."""

from pathlib import Path

from helpers.models import FIXTURE, model_folder
from longigen.hub.model_summary import ModelSummary, front_matter


def test_summary_of_a_folder(tmp_path: Path) -> None:
    summary = ModelSummary.from_folder(model_folder(tmp_path / "model"))
    assert summary.line == (
        "3,708 parameters, 24.8 kB, sim-brain, simulated, full: psnr 43.43 (copy-last 41.44), cc-by-4.0"
    )
    assert summary.to_dict()["metrics"] == {"protocol": "17dfacfebf2e", "full": {"psnr": [43.43, 41.44]}}
    bare = ModelSummary.from_folder(FIXTURE)
    assert bare.line.endswith("licence not stated")
    assert "metrics" not in bare.to_dict()
    card = tmp_path / "README.md"
    for text in ("", "# No head\n", "---\n[\n---\n", "---\n- a\n---\n"):
        card.write_text(text)
        assert front_matter(card) == {}
