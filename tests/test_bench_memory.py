"""Peak memory of a step: measured in bytes that can be counted by hand, and what SAM and LSAM promise of it."""

import torch

from edition.bench.memory import measure_memory, peak_bytes


def test_the_peak_counts_what_lives_together():
    def work():
        first = torch.empty(1000)  # 4,000 bytes
        del first
        second, third = torch.empty(2000), torch.empty(500)
        return second, third

    assert peak_bytes(work) == 10_000


def test_sam_adds_one_copy_of_the_parameters_and_lsam_one_of_its_head():
    head = 2 * 4096 / 102978  # the part of the conv net's parameters that is perturbed
    over = {row["method"]: row["copies_over_sgd"] for row in measure_memory(("convnet",))}
    assert abs(over["sam"] - 1.0) < 0.01 and over["lsam"] < 1.1 * head and over["floor"] == 0
