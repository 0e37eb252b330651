"""Puts the parts together: recipe, main loop, Ray and one-process assembly, checkpoints, metrics, CLI.

Imports everything; nothing imports it.
"""
