"""A file per backend that a recipe can name; see judging/backend.py for the base."""
