"""Find pictures in a folder that look nearly the same.

python examples/find_lookalikes.py FOLDER [LEAST_COSINE]
"""

import sys
import tempfile

import ravlm


def main(folder: str, least: float = 0.9) -> None:
    """Search for each picture with itself left out, and print the pairs at or above `least`."""
    with (
        tempfile.TemporaryDirectory() as place,
        ravlm.KnowledgeBase.build(f"{place}/kb", ravlm.read_entries(folder)) as kb,
    ):
        for entry in ravlm.read_entries(folder):
            if not kb.get(entry.id):
                continue
            others = ravlm.SearchOptions(exclude_ids=(entry.id,), min_score=least)
            for hit in kb.search(image=entry.image, k=5, modality="image", options=others):
                if entry.id < hit.entry.id:
                    print(f"{hit.score:.3f}  {entry.id}  {hit.entry.id}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
