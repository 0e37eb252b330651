"""Training of a reward model on pairs of answers to one prompt, of which a judge chose one."""
