"""The paper's experiments: protocol, figures, claims and verdicts."""
