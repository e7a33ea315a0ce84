"""The theory lab: objectives, the continuous flow, its energy and rates, stability, D-criticality."""
