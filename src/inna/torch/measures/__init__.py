"""Measurements of all parameters together before a step."""
