"""The example in docs/how-to/fusion.md works as printed and keeps the contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ravlm.errors import InvalidInput
from ravlm.fusion import FUSIONS, check_fusion, fusion_class
from ravlm.generation.captioner.modeling import CaptionerModel
from tests.conftest import REPOSITORY
from tests.helpers.fusion_conformance import CHECKS
from tests.helpers.fusion_models import batch, decoders_for, small_model

PAGE = (REPOSITORY / "docs" / "how-to" / "fusion.md").read_text(encoding="utf-8")
FUSION, TABLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAME, MODULE = "pooled_prefix", "ravlm_example_pooled_prefix"
DECODERS = decoders_for("prefix")


@pytest.fixture
def pooled_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's fusion, imported from a file of its own."""
    (tmp_path / f"{MODULE}.py").write_text(FUSION, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setitem(FUSIONS, NAME, f"{MODULE}.PooledPrefixFusion")


def test_page_touches_few_lines_and_lists_every_fusion() -> None:
    assert len(FUSION.splitlines()) + 1 < 100
    listed = dict(re.findall(r'"(\w+)": "([\w.]+)",', TABLE))
    assert listed == FUSIONS | {NAME: "ravlm.fusion.pooled_prefix.PooledPrefixFusion"}


@pytest.mark.usefixtures("pooled_prefix")
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(decoder: str, check: Callable[[CaptionerModel], None]) -> None:
    check(small_model(decoder, NAME))


@pytest.mark.usefixtures("pooled_prefix")
def test_each_entry_becomes_the_mean_of_its_states() -> None:
    module = sys.modules[fusion_class(NAME).__module__]
    inputs = small_model("own", NAME).encoder(**batch())
    pooled = module.pool_entries(inputs)
    assert pooled.evidence_mask.squeeze(-1).tolist() == [[True, True], [True, False]]
    expected = inputs.evidence_states[0, 1, :3].mean(0)
    torch.testing.assert_close(pooled.evidence_states[0, 1, 0], expected)


@pytest.mark.usefixtures("pooled_prefix")
def test_messages_list_it() -> None:
    with pytest.raises(
        InvalidInput, match=r'allowed: .*pooled_prefix.*Did you mean "pooled_prefix"'
    ):
        check_fusion("pooled_prefx")
