"""Text recognition (OCR): an image to regions with text, box and confidence, in reading order."""
