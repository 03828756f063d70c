"""Published models that ship with the package, one folder each; this package contains no code.

The section ``models`` of ``registry.yaml`` lists them as ``package:longigen_models/NAME``, with the SHA-256 of every
file (`longigen.hub.zoo`). A third party can ship models in its own package in the same way.
"""
