"""Scores by people: what waits to be judged, what was said of it, and the page on which it is said."""
