"""The interactive page of paths on surfaces."""
