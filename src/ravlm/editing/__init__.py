"""Pictures changed by an instruction: an instruction, a picture and evidence in, a picture out."""
