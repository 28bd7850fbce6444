"""Evaluation: arms of a model compared on a task, with paired statistics, and the report of it."""
