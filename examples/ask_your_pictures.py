"""Build a knowledge base from a folder of images, and ask about another image.

    python examples/ask_your_pictures.py FOLDER IMAGE "What is this?"

Each image in FOLDER may have a .txt file of the same name with facts about it. IMAGE may be another
photo of one of the same things."""

import sys
from pathlib import Path

import ravlm


def main(folder: str, image: str, question: str) -> None:
    """Build (or resume) the base next to the folder, then ask."""
    entries = ravlm.read_entries(folder)
    with ravlm.KnowledgeBase.build(Path(folder).with_suffix(".kb"), entries) as kb:
        for item in kb.quarantine:
            print(f"refused: {item.location}: {item.reason}", file=sys.stderr)
        model = ravlm.RetrievalAugmentedVLM(kb, generator="extractive")
        answer = model.ask(question, image=image)
        print(answer.text)
        for hit in answer.evidence:
            mark = "*" if hit.entry.id in answer.citations else " "
            print(f"{mark} {hit.score:.2f} {hit.entry.id}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
