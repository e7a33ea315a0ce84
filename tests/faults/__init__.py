"""Faults on purpose, counted: kills, full disks, damage, dead clusters, races, a bad clock (docs/reliability.md).

PYTHONPATH=tests python -m faults                                    all of it, over an hour
PYTHONPATH=tests python -m faults --kills 8 --corruptions 60 --trials 2          a taste
PYTHONPATH=tests python -m faults --only dask --trials 5 --json FILE             one kind; FILE keeps its other rows
PYTHONPATH=tests python -m faults --from results/cpu/faults.json     only the tables, from rows that are there
"""
