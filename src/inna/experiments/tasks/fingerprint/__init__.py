"""Fingerprints: digests of everything that a task, or an optimizer's class, consists of."""

from inna.experiments.tasks.fingerprint.digests import SCHEME, fingerprint, fingerprint_class

__all__ = ["SCHEME", "fingerprint", "fingerprint_class"]
