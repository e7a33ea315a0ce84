"""The steps of INNA and INNAprop on lists of tensors, single-tensor and foreach."""
