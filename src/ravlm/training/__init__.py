"""Training: one trainer (`trainer`), and one module for each objective."""
