"""Puts the parts together: recipe, main loop, the Ray and the one-process assembly, checkpoints, metrics, CLI.

Imports everything; nothing imports it.
"""
