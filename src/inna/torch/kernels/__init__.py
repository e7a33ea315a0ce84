"""The compiled step: one pass over memory for all tensors of a group.

It is in C on the CPU and in Triton on CUDA devices.

A fused step reads theta, m and g and writes theta and m, once, and needs no temporary.
"""
