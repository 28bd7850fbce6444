"""Find pairs of images in a folder that look nearly the same.

    python examples/find_lookalikes.py FOLDER [MIN_SIMILARITY]

MIN_SIMILARITY is a cosine; the default is 0.9."""

import sys
import tempfile

import ravlm


def main(folder: str, min_similarity: float = 0.9) -> None:
    """Search with each image for the others, and print the pairs above `min_similarity`."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        ravlm.KnowledgeBase.build(f"{temporary}/kb", ravlm.read_entries(folder)) as kb,
    ):
        for entry in ravlm.read_entries(folder):
            if entry.id not in kb:
                continue
            options = ravlm.SearchOptions(exclude_ids=(entry.id,), min_score=min_similarity)
            for hit in kb.search(image=entry.image, k=5, modality="image", options=options):
                if entry.id < hit.entry.id:  # print each pair once
                    print(f"{hit.score:.3f}  {entry.id}  {hit.entry.id}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]))
