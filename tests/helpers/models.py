"""A small model of an old schema, and numbers of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from helpers.files import FIXTURES
from helpers.sites import Site
from longigen.hub.manifest import build_manifest, manifest_to_dict

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


def entry_of(folder: Path, source: str, **changes: Any) -> dict[str, Any]:
    """Return the entry in a registry.yaml of the model in a folder."""
    return {
        "summary": "a tiny model, from outside",
        "source": source,
        "files": manifest_to_dict(build_manifest(folder)),
        "licence": "cc-by-4.0",
        "data": "sim-brain, simulated",
        "recipe": "sadm-tiny",
        "parameters": 3708,
        "metrics": {"protocol": "17dfacfebf2e", "full": {"psnr": [43.43, 41.44]}},
        **changes,
    }


def publish(site: Site, name: str = "tiny", **changes: Any) -> Path:
    """Install a third-party distribution whose package ships a model, and return the model's folder."""
    distribution, package = f"of-{name}", f"of_{name}"
    folder = model_folder(site.folder / package / "weights" / name)
    index = {
        "schema_version": 1,
        "models": {name: entry_of(folder, **{"source": f"package:{package}/weights/{name}", **changes})},
    }
    files = {f"{package}/__init__.py": "raise RuntimeError", f"{package}/registry.yaml": yaml.safe_dump(index)}
    site.install(distribution, {"longigen.registry": {name: package}}, files)
    return folder
