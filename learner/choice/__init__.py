"""Q-learning over candidate actions that are texts: which answer, which reply, which dialogue act.

transitions.py  what was tried and what came of it, read from JSONL or Parquet
table.py        the same as tensors of numbers that stand for texts
encoder.py      a Hugging Face network turns a text into a vector
vectors.py      vectors of a frozen encoder, kept in a file
sources.py      where the Q network gets its vectors: a frozen table, or an encoder that is trained
network.py      Q(state vector, action vector)
model.py        both together
replay.py       which transitions an update learns from
trainer.py      Double DQN
measure.py      how good the choices are; baselines.py how good they would be without learning
chooser.py      a trained model, ready to choose
"""
