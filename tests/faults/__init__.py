"""Faults on purpose, counted: kills, a full disk, flipped and missing bytes (docs/reliability.md).

PYTHONPATH=tests python -m faults                                    all of it, about 40 minutes
PYTHONPATH=tests python -m faults --kills 8 --corruptions 60         a taste
PYTHONPATH=tests python -m faults --from results/cpu/faults.json     only the tables, from rows that are there
"""
