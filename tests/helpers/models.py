"""A small model of an old schema, and numbers of it."""

from helpers.files import FIXTURES

FIXTURE = FIXTURES / "schema-1"
METRICS = {
    "protocol_hash": "17dfacfebf2e",
    "rows": [
        {"setting": "full", "method": "copy-last", "visits": 10, "psnr": {"mean": 41.44}},
        {"setting": "full", "method": "model", "visits": 10, "psnr": {"mean": 43.43}, "psnr gain": {"mean": 1.99}},
    ],
}
