"""What a decode step does beside its matrix products, in C, for CPUs: built by the compiler of the machine.

Called by the torch engine; knows nothing of models and requests. Where nothing can be built, torch does it.
"""
