"""Edit images by instruction, steered by retrieved examples."""
