"""Teach a chat model to answer from your knowledge base and to cite it, by LoRA.

    python examples/tune_generator.py MODEL QUESTIONS KB OUT QUESTION

MODEL is a chat model of Transformers (folder or hub name), QUESTIONS a JSON Lines file with
`question` and `answer`, KB a folder of ravlm build. OUT becomes the folder of the adapter;
the tuned model answers QUESTION."""

import sys

import ravlm


def main(name: str, questions: str, kb_folder: str, out: str, question: str) -> None:
    """Train, and answer a question."""
    with ravlm.KnowledgeBase.open(kb_folder) as kb:
        ravlm.train_generator(name, questions, kb, out, report=print)
        model = ravlm.RetrievalAugmentedVLM(kb, f"{name}+{out}")
        answer = model.ask(question)
        print(answer.text, answer.citations)


if __name__ == "__main__":
    main(*sys.argv[1:6])
