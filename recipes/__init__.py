"""How the starter's weights were trained. Not part of the package."""
