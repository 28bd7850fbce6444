"""The offline editor: instructions parsed by rules, regions segmented, colors changed in OKLab."""
