"""The matrix of uses: outcomes are found by trying, and ours are never silently wrong."""

import dataclasses

import pytest
import torch

from edition.bench.record import load_untimed
from edition.bench.uses import OUTCOMES, USES, Implementation, _outcome, implementations, measure_uses
from edition.runs import store_for
from samlib.optim import SAM

ALONE = [name for name in USES if name not in ("ddp", "fsdp1", "fsdp2")]  # tests/test_optim_shards.py has those


@pytest.mark.parametrize("name", ALONE)
def test_ours_comes_out_as_the_page_says(name):
    recorded = {row["use"]: row["sam"] for row in load_untimed("uses", store_for("paper"))["measured"]}
    assert _outcome(USES[name], implementations()["sam"]) == recorded[name]


def test_an_implementation_that_perturbs_nothing_or_twice_as_far_is_found_wrong():
    def build(params, base, *, rho, module=None, **options):
        return base(params, **options)

    plain = Implementation(build, lambda sam: sam.zero_grad(), lambda sam: sam.step(), True)
    assert {_outcome(USES[name], plain) for name in ("plain_loop", "accumulated", "maximize", "tiny")} == {"wrong"}
    ours = implementations()["sam"]
    longer = dataclasses.replace(ours, build=lambda *args, rho, **options: SAM(*args, rho=2 * rho, **options))
    assert _outcome(USES["plain_loop"], longer) == "wrong"


def test_an_error_and_a_warning_are_refusals():
    def refuse(*_, **__):
        raise TypeError("no")

    one = Implementation(refuse, lambda sam: None, lambda sam: None, True)
    assert _outcome(USES["plain_loop"], one) == "refused"
    assert _outcome(USES["earlier_gradients"], implementations()["sam"]) == "refused"  # warns


def test_rows_name_the_use_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    [row] = measure_uses(["maximize"])
    assert row["use"] == "maximize" and row["what"].startswith("A base with maximize=True")
    assert row["sam"] == "right" and row["two_step_sam"] == "wrong"
    assert set(row.values()) - {row["use"], row["what"]} <= set(OUTCOMES)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_committed_record_has_a_row_for_each_use():
    record = load_untimed("uses", store_for("paper"))
    assert [row["use"] for row in record["measured"]] == list(USES)
    assert "wrong" not in {row["sam"] for row in record["measured"]}
