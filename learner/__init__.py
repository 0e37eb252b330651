"""Turns groups into better weights: algorithms, functional maths, model heads, batches, replay, optimizer.

Knows the types of the rollout side and nothing of its machinery. actor.py is its Ray shell.
"""
