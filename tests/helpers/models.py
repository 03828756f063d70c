"""A small model of an old schema, and numbers of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.files import FIXTURES

FIXTURE = FIXTURES / "schema-1"
METRICS = {
    "protocol_hash": "17dfacfebf2e",
    "rows": [
        {"setting": "full", "method": "copy-last", "visits": 10, "psnr": {"mean": 41.44}},
        {"setting": "full", "method": "model", "visits": 10, "psnr": {"mean": 43.43}, "psnr gain": {"mean": 1.99}},
    ],
}


def config_of(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "library_name": "longigen",
        "conditioner": {"name": "source", "distribution": "longigen", "version": "1", "config": {}},
        "denoiser": {"name": "unet3d", "distribution": "longigen", "version": "1", "config": {"width": 8}},
        "sampler": {"name": "regression", "distribution": "longigen", "version": "1", "config": {}},
        "data": {"name": "acdc", "simulated": False},
        **changes,
    }


def model_folder(folder: Path) -> Path:
    """Write a model with its card and metrics."""
    shutil.copytree(FIXTURE, folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# Tiny\n")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
