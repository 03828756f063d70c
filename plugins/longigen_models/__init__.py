"""The project's published models whose weights are small enough to ship with the package: a folder each, and no code.

The section ``models`` of ``registry.yaml`` names them, as ``package:longigen_models/NAME``, and has the SHA-256 of
every file (`longigen.hub.zoo`). A third party ships its own in the same way, in a package of its own.
"""
