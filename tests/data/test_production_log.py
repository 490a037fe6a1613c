"""The log of an inspection line: what lesson 05 of stage 2 lets learners choose from."""

from __future__ import annotations

from course.data import surfaces


def test_it_has_one_entry_for_each_photograph_and_one_material_after_the_other():
    log = surfaces.production_log()
    assert len({entry["seed"] for entry in log}) == len(log) == 320
    assert {entry["material"] for entry in log} == set(surfaces.MATERIALS)
    changes = sum(one["material"] != following["material"] for one, following in zip(log, log[1:]))
    assert changes == len(surfaces.MATERIALS) - 1
    assert surfaces.surface(size=32, **log[0]).image.shape == (32, 32, 3)
