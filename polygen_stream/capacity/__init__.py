"""Estimates before a run: whether it fits the machine, how to divide the GPUs, how fast it is, and what is missing.

launch/process_plan.py decides which processes a run starts, with their commands, devices and environment; the
supervisor starts exactly that plan. This package decides nothing about a run. It takes a config or such a plan and
computes what that needs and yields: GPU memory per process (memory), a division of GPUs among the roles (allocation,
proposal) at given rates (rates), and the weights and engines that the machine lacks (readiness). It imports no torch.
"""
