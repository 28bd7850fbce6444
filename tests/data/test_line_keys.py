"""Enumerations in the running text of a page."""

from __future__ import annotations

import pytest

from ravlm.data.line_keys import numbered_items


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (
            "Exit codes: 0 done, 1 refused or failed (one sentence), 2 usage error.",
            [("0", "done"), ("1", "refused or failed (one sentence)"), ("2", "usage error")],
        ),
        (
            "0 Success. 1 A failure. 3 Waiting with waitpid(2) failed in 1.5 s.",  # one is left out
            [
                ("0", "Success"),
                ("1", "A failure"),
                ("3", "Waiting with waitpid(2) failed in 1.5 s"),
            ],
        ),
        (
            "章节号：1 可执行程序2 系统调用 3 库调用(函数) 4 特殊文件。",
            [("1", "可执行程序"), ("2", "系统调用"), ("3", "库调用(函数)"), ("4", "特殊文件")],
        ),
        (
            "124 if it takes too long 125 if 9 tries fail 126 if it isn't found.",
            [
                ("124", "if it takes too long"),
                ("125", "if 9 tries fail"),
                ("126", "if it isn't found"),
            ],
        ),
        ("In 2004 there were 3 ships, 4 boats and 12 men.", []),  # only two count up
        ("1 cat and 2 dogs live here.", []),  # too few
        ("At 1 p.m. 12 of 40 ships had left.", []),
    ],
)
def test_items_count_up(text: str, items: list[tuple[str, str]]) -> None:
    text = f"before: {text}"
    found = numbered_items(text, 8, len(text))
    assert [(item.number, text[item.start : item.end]) for item in found] == items
    assert all(text[item.number_start :].startswith(item.number) for item in found)
