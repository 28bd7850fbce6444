"""`ravlm demo`: a knowledge base of real photos; search, questions, captions, stories and a
conversation about them; and a page that shows all of it."""

from ravlm.demo.run import run_demo

__all__ = ["run_demo"]
