"""The theory of INNA: flow, energy, rates, stability and D-criticality."""
