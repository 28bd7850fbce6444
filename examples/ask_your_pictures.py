"""Make a knowledge base of a folder of pictures, and ask about one of them.

    python examples/ask_your_pictures.py FOLDER PICTURE "What is this?"

FOLDER: pictures, each with what is known of it in a .txt file of the same name. PICTURE may be
another photo of one of the same things."""

import sys
from pathlib import Path

import ravlm


def main(folder: str, picture: str, question: str) -> None:
    """Build (or go on with) the base beside the pictures' folder, then ask."""
    entries = ravlm.read_entries(folder)
    with ravlm.KnowledgeBase.build(Path(folder).with_suffix(".kb"), entries) as kb:
        for refused in kb.quarantine:
            print(f"refused: {refused.place}: {refused.reason}", file=sys.stderr)
        model = ravlm.RetrievalAugmentedVLM(kb, generator="extractive")
        answer = model.ask(question, image=picture)
        print(answer.text)
        for hit in answer.evidence:
            mark = "*" if hit.entry.id in answer.citations else " "
            print(f"{mark} {hit.score:.2f} {hit.entry.id}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
