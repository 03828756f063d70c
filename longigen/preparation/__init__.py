"""Scans to data that models train on: registration of visits, masks, bias fields and one grid (`longigen prepare`)."""
