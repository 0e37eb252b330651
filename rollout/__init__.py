"""Makes trajectories: prompts, engines, environments, the rollout worker; actor.py is its Ray shell.

Tokens are the truth here; text is a view made for rewards and people.
"""
