"""The ground floor: what every other folder may use, and which uses none of them.

errors.py    mistakes that a person can mend: rule, value, remedy
settings.py  the base of all config models
plugins.py   how the `name:` of a recipe becomes a class
seeds.py     one random seed per thing that draws, derived from the seed of the run
"""

__version__ = "0.1.0"
