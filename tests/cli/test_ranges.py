"""Values outside their range on the command line: one sentence on stderr and exit status 2."""

import pytest

from helpers.processes import Longigen


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("sampler.steps=0", "The sampler 'continuous': steps must be a whole number from 1 to 100000, got 0."),
        ("sampler.v=5", "The sampler 'continuous': v must be a number from 0 to 1, got 5."),
        ("model.p_uncond=7", "Section 'model': p_uncond must be a number from 0 to 1, got 7."),
        ("model.guidance=-2", "Section 'model': guidance must be a number from 0 to 1000, got -2."),
        ("training.ema=3", "Section 'training': ema must be a number from 0 to 1, got 3."),
        ("training.clip=-1", "Section 'training': clip must be a number above 0, got -1."),
        ("training.warmup=-3", "Section 'training': warmup must be a whole number of at least 0, got -3."),
        ("learning_rate=-1", "Section 'training': learning_rate must be a number of at least 0, got -1."),
        ("workers=-1", "Section 'training': workers must be a whole number of at least 0, got -1."),
        ("log_snr_min=30", "ContinuousSampler: log_snr_min must be below log_snr_max, got 30 and 0."),
        ("log_snr_max=.inf", "The sampler 'continuous': log_snr_max must be a number from -60 to 60, got inf."),
        ("dim=7", "sadm: dim 7 must be a multiple of heads 4; change either."),
        (
            "split.test=0.9",
            "split.validation = 0.15 and split.test = 0.9 leave nothing to train on; make them smaller.",
        ),
    ],
)
def test_train(longigen: Longigen, change: str, sentence: str) -> None:
    assert longigen("train", "--set", change, status=2).stderr == f"longigen: {sentence}\n"


SADM = "sadm-sim-brain"
EVALUATIONS = "steps must be a whole number from 1 to 100000, got 0."
STEPS = "Section 'training': steps must be a whole number of at least 1, got 0."
COUNT = "must be a whole number of at least 1, got 0."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("generate", SADM, "--steps", 0), EVALUATIONS),
        (("generate", SADM, "--guidance", -1), "guidance must be a number from 0 to 1000, got -1.0."),
        (("generate", SADM, "--samples", 0), f"samples {COUNT}"),
        (("evaluate", SADM, "--steps", 0), EVALUATIONS),
        (("evaluate", SADM, "--guidance", "nan"), "guidance must be a number from 0 to 1000, got nan."),
        (("evaluate", SADM, "--batch-size", 0),
         "batch_size must be a whole number of at least 1 or one of 'auto', got 0."),
        (("evaluate", SADM, "--metric", "kid:layer=-1"),
         "The metric 'kid': layer must be a whole number of at least 0, got -1."),
        (("train", "--steps", 0), STEPS),
        (("bench", "sadm-ablation", "--steps", 0), STEPS),
        (("bench", "sadm-ablation", "--seeds", 0), f"--seeds {COUNT}"),
        (("doctor", "sim-brain", "--workers", 0), f"workers {COUNT}"),
        (("doctor", "sim-brain", "--set", "seed=-1"),
         "The dataset 'sim-brain': seed must be a whole number from 0 to 4294967295, got -1."),
    ],
)  # fmt: skip
def test_options(longigen: Longigen, words: tuple[object, ...], sentence: str) -> None:
    assert longigen(*words, status=2).stderr == f"longigen: {sentence}\n"
