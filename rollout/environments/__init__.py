"""Environments: one file each; whatever is found here can be named in a recipe (see antiphon.plugins)."""
