"""Tests compute with one thread in each of several workers, with two in a process that is alone."""

from __future__ import annotations

import os

import pytest
import torch

from tests import threads


@pytest.mark.parametrize(
    ("given", "starts_workers", "wanted"),
    [
        ({}, False, "2"),
        ({}, True, None),
        ({"PYTEST_XDIST_WORKER": "gw0"}, False, "1"),
        ({"OMP_NUM_THREADS": "3"}, False, "3"),
        ({"OMP_NUM_THREADS": "3", "PYTEST_XDIST_WORKER": "gw0"}, False, "3"),
    ],
    ids=["alone", "starts workers", "a worker", "given", "given to a worker"],
)
def test_the_number_goes_to_who_computes(given, starts_workers, wanted):
    variables = dict(given)
    threads.choose(variables, starts_workers)
    assert variables.get("OMP_NUM_THREADS") == wanted


def test_a_worker_gets_its_own_number_from_the_process_that_started_it():
    mother: dict[str, str] = {}
    threads.choose(mother, starts_workers=True)
    worker = {**mother, "PYTEST_XDIST_WORKER": "gw0"}
    threads.choose(worker, starts_workers=False)
    assert worker["OMP_NUM_THREADS"] == "1"


def test_this_process_has_what_was_chosen():
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"]) == threads.number()
