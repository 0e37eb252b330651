"""Turns groups into better weights. Knows the types of the rollout side and nothing of its machinery.

learner.py        one update, from groups on          replay.py         where groups wait
algorithms/       credit and loss, one file each      batch.py          groups as tensors
functional/       the mathematics                     micro_batches.py  which rows go through together
supervised.py     the phase before                    layout.py         how they lie there, prompts shared
optimizer.py      steps and schedules                 model.py          log-probs, entropies, heads
kl_control.py     the leash to the reference          heads.py          values, or what else is asked for
passes.py         over a batch, part by part         mismatch.py       the alarm of the metrics
state.py          into files and back                 tensors.py        out of a module and back
process.py        what one process holds              actor.py          its Ray shell
"""
