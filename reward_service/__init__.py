"""Scores completions: wire types, components, rubric, the Serve deployment and its client.

Imports nothing of ours but the ground floor. Text arrives here only as a view of the tokens.
"""
