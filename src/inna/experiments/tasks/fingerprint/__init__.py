"""Fingerprints: digests of all that a task or an optimizer's class has."""

from inna.experiments.tasks.fingerprint.digests import SCHEME, fingerprint, fingerprint_class

__all__ = ["SCHEME", "fingerprint", "fingerprint_class"]
