"""The version of what training computes."""

#: Raised whenever the numbers that training produces change; part of every cell's train_hash.
TRAINING_VERSION = 2
