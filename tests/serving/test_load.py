"""The load generator on small servers in this process, whose behaviour is known."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import numpy as np
import pytest

from course.serving import ServingError, closed_loop, open_loop, overhead, result, save
from course.serving.client import Client
from course.serving.loop import RECORD
from course.serving.metrics import Statistics

FEED = {"x": np.zeros((1, 4), np.float32)}


@contextlib.contextmanager
def server(behave):
    """An HTTP server; `behave(number)` is awaited for each request and gives (status, body), or None to hang up."""
    loop, started, address, count = asyncio.new_event_loop(), threading.Event(), [], [0]

    async def talk(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                count[0] += 1
                reply = await behave(count[0])
                if reply is None:
                    break
                status, body = reply
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        writer.close()

    async def main():
        listening = await asyncio.start_server(talk, "127.0.0.1", 0)
        address.append(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        started.set()

    async def end():
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    loop.create_task(main())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started.wait(5)
    try:
        yield address[0]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def quick(number):
    return 200, b"{}"


@pytest.mark.serial
def test_the_open_loop_sees_a_pause_that_the_closed_loop_leaves_out():
    """The server stands still for half a second, once: of 2 s of users, a quarter is hit. (Coordinated omission.)"""

    def pausing():
        lock = asyncio.Lock()

        async def behave(number):
            async with lock:
                if number == 50:
                    await asyncio.sleep(0.5)
            return 200, b"{}"

        return behave

    with server(pausing()) as address:
        of_users = open_loop(address, "", FEED, 200.0, 2.0, warmup=0)
    with server(pausing()) as address:
        of_one = closed_loop(address, "", FEED, 1, 2.0, warmup=0)
    assert of_users.percentile(90) > 200 and of_users.failed == 0
    assert of_one.percentile(90) < 50  # one request of thousands was slow


def test_percentiles_are_those_of_the_samples():
    latencies = np.random.default_rng(0).lognormal(1, 1, 20_000)
    counted = result.histogram(latencies)
    for percent in (50, 90, 99, 99.9):
        wanted = np.percentile(latencies, percent)
        assert counted.get_value_at_percentile(percent) / 1e3 == pytest.approx(wanted, rel=0.01)


def test_every_request_is_recorded_and_inputs_take_turns():
    with server(quick) as address:
        load = open_loop(address, "", [FEED, FEED, FEED], 400.0, 0.5, warmup=0, seed=5)
    assert load.sent == load.latencies.total_count == round(load.offered * 0.5) and load.failed == 0
    assert load.records["feed"].tolist() == [number % 3 for number in range(load.sent)]
    assert (load.records["sent"] >= load.records["due"]).all() and (load.records["done"] > load.records["sent"]).all()
    assert load.goodput(1e6) == pytest.approx(load.sent / 0.5) and load.goodput(0) == 0


def test_counts_are_taken_when_they_stand_still(monkeypatch):
    """Triton counts a request after it has sent its answer: one of the warm-up was counted as the load's."""
    counted = iter([90, 91, 92, 92, 93])

    def get(self, path):
        times = {name: {"count": 0, "ns": 0} for name in ("fail", "queue", "compute_input", "compute_infer")}
        times |= {"compute_output": {"count": 0, "ns": 0}, "success": {"count": next(counted), "ns": 0}}
        return {"model_stats": [{"inference_stats": times, "inference_count": 0, "execution_count": 0}]}

    monkeypatch.setattr(Client, "get", get)
    assert Client("").statistics("model").requests == 92


def test_a_plan_of_arrivals_is_kept():
    due = np.array([0.0, 0.1, 0.1, 0.2])
    with server(quick) as address:
        load = open_loop(address, "", FEED, due, 0.3, warmup=0)
        assert np.array_equal(load.records["due"], due)
        for wrong in (due[::-1].copy(), due + 1, np.zeros(0)):
            with pytest.raises(ServingError, match="arrivals"):
                open_loop(address, "", FEED, wrong, 0.3)


@pytest.mark.serial
def test_refusals_silence_and_hung_up_connections_are_failures_with_reasons():
    async def behave(number):
        if number % 4 == 1:
            return 503, json.dumps({"error": "queue is full"}).encode()
        if number % 4 == 2:
            return None
        if number % 4 == 3:
            await asyncio.sleep(60)
        return 200, b"{}"

    with server(behave) as address:
        load = open_loop(address, "", FEED, np.arange(20) * 0.02, 0.5, warmup=0, timeout=0.3)
        again = closed_loop(address, "", FEED, 2, 0.5, warmup=0, timeout=0.2)
    assert load.sent == 20 and load.failed == 15 and load.reasons["queue is full"] == 5
    assert sum(load.reasons.values()) == 15 and load.latencies.total_count == 5
    assert again.failed and again.failed < again.sent


@pytest.mark.serial
def test_a_request_without_a_connection_waits_and_its_latency_goes_on():
    async def slow(number):
        await asyncio.sleep(0.05)
        return 200, b"{}"

    with server(slow) as address:
        load = open_loop(address, "", FEED, np.zeros(10), 0.1, warmup=0, connections=2)
    latency = (load.records["done"] - load.records["due"]) * 1e3
    assert load.failed == 0 and latency.max() > 5 * 45 and np.sort(latency)[1] < 5 * 45


def test_without_a_server_it_says_so():
    for call in (lambda: closed_loop("127.0.0.1:9", "", FEED), lambda: open_loop("127.0.0.1:9", "m", FEED, 10.0)):
        with pytest.raises(ServingError, match="No server answers"):
            call()
    with pytest.raises(ServingError, match="at least one client"):
        closed_loop("127.0.0.1:9", "", FEED, 0)
    with pytest.raises(ServingError, match="nothing to send"):
        closed_loop("127.0.0.1:9", "", [])


@pytest.mark.serial
def test_the_generator_itself_is_quick():
    """Far from the rates of the lessons, some hundreds a second; measured here: 17 000 a second with one client."""
    load = overhead(FEED, clients=1, seconds=1)
    assert load.rate > 2000 and load.p50 < 0.5
    planned = overhead(FEED, rate=500, seconds=1)
    assert planned.p50 < 2 and np.median(planned.late) < 1 and planned.cpu_share < 0.5


def test_progress_is_told_and_a_file_holds_every_request(tmp_path):
    said = []
    with server(quick) as address:
        load = open_loop(address, "", FEED, 100.0, 1.2, warmup=0, tell=said.append)
    assert said[0].elapsed >= 0.5 and "p99" in str(said[0])
    written = json.loads(save([load], tmp_path / "load.json", note="a note").read_text())
    assert written["note"] == "a note" and len(written["loads"][0]["latency_ms"]) == load.sent
    assert written["loads"][0]["p99_ms"] == load.p99 and written["machine"]


def test_a_busy_generator_doubts_itself():
    raw = result.Raw(np.zeros(3, RECORD), None, {}, 0.95)
    raw.records["status"] = 200
    assert "bottleneck" in result.Load.of(raw, "x", "m", 1.0, Statistics(), Statistics()).doubt
    late = result.Raw(np.zeros(3, RECORD), None, {}, 0.1)
    late.records["status"], late.records["sent"], late.records["done"] = 200, 0.010, 0.011
    assert "late" in result.Load.of(late, "x", "m", 1.0, Statistics(), Statistics()).doubt
