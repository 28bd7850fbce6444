"""Evaluation: compare the arms of a model on a task with paired statistics, and report it."""
