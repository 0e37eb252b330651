"""What several components say of a completion, made one number; and what is known of their noise.

fusion.py     the sum of weight times normalised component, one score per sample
ensemble.py   several judgements of one quantity: aligned, cleaned, fused, shrunk
normalize.py  robust.py  align.py  contrary.py  noise.py  shrink.py   the mathematics
calibrate.py  a judge measured against trusted labels

Nothing here calls a component. The model and every formula: docs/noise.md.
"""
