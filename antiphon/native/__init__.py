"""Kernels in C for CPUs, built by the compiler of the machine: for decoding, and for what learning needs.

Called by the torch engine, and by the learner's log-probabilities and attention; knows nothing of models and
requests. Where nothing can be built, torch computes the same.
"""
