from ravlm.data.text import porter_stem as stem  # temporary alias

__all__ = ["stem"]
