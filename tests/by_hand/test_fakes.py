"""The stand-in for PyCUDA and a context is as late, and as strict, as a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from course.by_hand import fakes

IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def made():
    driver = fakes.Driver()
    context = fakes.Context(driver, ("x", "y"), lambda x: x + 1, lambda shape: shape, largest=4)
    assert context.set_input_shape("x", IMAGE.shape)
    buffers = {name: driver.mem_alloc(IMAGE.nbytes) for name in ("x", "y")}
    for name, buffer in buffers.items():
        assert context.set_tensor_address(name, int(buffer))
    return driver, context, buffers, driver.Stream(), driver.pagelocked_empty(IMAGE.shape, np.float32)


def test_work_is_done_when_somebody_waits_and_not_before(made):
    driver, context, buffers, stream, answer = made
    driver.memcpy_htod_async(buffers["x"], IMAGE, stream)
    assert context.execute_async_v3(stream.handle)
    driver.memcpy_dtoh_async(answer, buffers["y"], stream)
    assert np.isnan(answer).all()
    stream.synchronize()
    assert (answer == IMAGE + 1).all()


def test_a_host_array_that_is_changed_too_early_is_copied_as_it_is_then(made):
    driver, context, buffers, stream, answer = made
    host = IMAGE.copy()
    driver.memcpy_htod_async(buffers["x"], host, stream)
    host[...] = 7
    context.execute_async_v3(stream.handle)
    driver.memcpy_dtoh_async(answer, buffers["y"], stream)
    stream.synchronize()
    assert (answer == 8).all()


@pytest.mark.parametrize("late", ["run", "copy"])
def test_another_stream_does_not_wait_for_this_one(made, late):
    driver, context, buffers, stream, answer = made
    other = driver.Stream()
    driver.memcpy_htod_async(buffers["x"], IMAGE, other if late == "copy" else stream)
    context.execute_async_v3(other.handle if late == "run" else stream.handle)
    driver.memcpy_dtoh_async(answer, buffers["y"], stream)
    stream.synchronize()
    assert np.isnan(answer).all()


def test_a_blocking_copy_does_not_wait_for_a_stream_of_its_own(made):
    driver, context, buffers, stream, answer = made
    driver.memcpy_htod(buffers["x"], IMAGE)
    context.execute_async_v3(stream.handle)
    driver.memcpy_dtoh(answer, buffers["y"])
    assert np.isnan(answer).all()


def test_memory_that_was_freed_too_early_is_an_illegal_access(made):
    driver, context, buffers, stream, _ = made
    driver.memcpy_htod_async(buffers["x"], IMAGE, stream)
    context.execute_async_v3(stream.handle)
    buffers["y"].free()
    with pytest.raises(fakes.Fault, match="illegal memory access"):
        stream.synchronize()


def test_an_address_that_was_never_given_is_an_illegal_access(made):
    driver, context, buffers, stream, _ = made
    driver.memcpy_htod_async(buffers["x"], IMAGE, stream)
    context.set_tensor_address("y", 12345)
    context.execute_async_v3(stream.handle)
    with pytest.raises(fakes.Fault, match="illegal memory access"):
        stream.synchronize()


def test_a_copy_that_is_larger_than_its_memory_is_refused(made):
    driver, _, buffers, _, _ = made
    with pytest.raises(fakes.Fault, match="32 bytes, the memory 24"):
        driver.memcpy_htod(buffers["x"], np.zeros(8, np.float32))


def test_an_output_buffer_that_is_too_small_is_an_illegal_access(made):
    driver, context, buffers, stream, _ = made
    driver.memcpy_htod_async(buffers["x"], IMAGE, stream)
    context.set_tensor_address("y", int(driver.mem_alloc(8)))
    context.execute_async_v3(stream.handle)
    with pytest.raises(fakes.Fault, match="too small"):
        stream.synchronize()


def test_what_tensorrt_refuses_gives_false():
    driver = fakes.Driver()
    context = fakes.Context(driver, ("x", "y"), lambda x: x, lambda shape: shape, largest=4)
    stream = driver.Stream()
    assert context.get_tensor_shape("y") == (-1,)
    assert not context.set_input_shape("x", (5, 3)) and not context.set_input_shape("z", (2, 3))
    assert not context.set_tensor_address("z", 1)
    assert not context.execute_async_v3(stream.handle)  # no shape
    context.set_input_shape("x", (2, 3))
    context.set_tensor_address("x", int(driver.mem_alloc(24)))
    assert not context.execute_async_v3(stream.handle)  # no address of y
    context.set_tensor_address("y", int(driver.mem_alloc(24)))
    assert not context.execute_async_v3(99) and context.execute_async_v3(stream.handle)
