"""Requests that find no free slot: who waits, who is next, and what the client is told."""

import asyncio
from typing import Any, Self

import pytest
from msgspec.structs import replace
from tests.integration.arena import ALIAS, CALM, MODEL, Running, eventually, serving, settings, sim
from tests.integration.asking import (
    CHAT,
    Answer,
    Asked,
    ask,
    asking,
    body_of,
    get,
    request_bytes,
)

from arriero.config.settings import Config, Queueing, Server, Timeouts
from arriero.testing.ollama import Fault, Kind, OllamaSim

PATIENT = Timeouts(load_s=60, first_token_s=60, inter_token_s=60, response_s=60)


def one_slot(host: OllamaSim, *more: OllamaSim, **queue: Any) -> Config:
    return settings(host, *more, timeouts=PATIENT, slots=1, queue=Queueing(**queue))


async def request(
    port: int, body: object | None = None, path: str = CHAT, **headers: str
) -> Answer:
    """Ask with further headers; an underscore is a dash."""
    whole = request_bytes(body or body_of(), path)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    first, _, rest = whole.partition(b"\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with Asked(reader, writer) as asked:
        writer.write(first + b"\r\n" + lines.encode() + rest)
        return await asked.answer()


class Hold:
    """Keeps a host's only slot busy until `release`."""

    def __init__(self, running: Running, host: OllamaSim) -> None:
        self.running = running
        self.host = host

    async def __aenter__(self) -> Self:
        self.host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
        hung = self.host.stats.faults[Kind.HANG]
        self._asking = asking(self.running.port, body_of(text="hold"))
        self._asked = await self._asking.__aenter__()
        await eventually(lambda: self.host.stats.faults[Kind.HANG] > hung, "a busy slot")
        return self

    async def release(self) -> None:
        await self._asked.leave()

    async def __aexit__(self, *_: object) -> None:
        await self._asking.__aexit__(None, None, None)


async def waiting(running: Running, count: int) -> None:
    await eventually(lambda: running.gateway.queue.waiting == count, f"{count} waiting")


def order_of(host: OllamaSim) -> list[str]:
    """What the host was asked, in order."""
    return [
        seen.json()["messages"][-1]["content"] for seen in host.requests if seen.path == "/api/chat"
    ]


# -- waiting and being served


@pytest.mark.parametrize("stream", [False, True])
async def test_who_finds_no_slot_waits_and_is_told_how_long(*, stream: bool) -> None:
    async with sim() as host, serving(one_slot(host)) as running, Hold(running, host) as hold:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ask(running.port, stream=stream))
            await waiting(running, 1)
            await hold.release()
        answer = asked.result()
        assert answer.good
        assert int(answer.headers["x-arriero-queue-ms"]) >= 0
        metrics = running.gateway.metrics
        assert sum(metrics.aliases[ALIAS].queue_wait.counts) == 1
    free = await _plain()
    assert "x-arriero-queue-ms" not in free.headers


async def _plain() -> Answer:
    async with sim() as host, serving(one_slot(host)) as running:
        return await ask(running.port)


async def test_the_hosts_own_queue_stays_empty() -> None:
    async with (
        sim(decode_tps=2000) as a,
        sim(decode_tps=2000) as b,
        serving(one_slot(a, b)) as running,
    ):
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(running.port, stream=True)) for _ in range(40)]
        assert all(each.result().good for each in asked)
        for host in (a, b):
            assert host.stats.of(MODEL).waiting.most == 0
            assert host.stats.of(MODEL).running.most == 1
            assert host.stats.of(MODEL).generations >= 15, "both did their part"


async def test_users_behind_a_trusted_key_take_turns() -> None:
    async with sim() as host, serving(one_slot(host)) as running, Hold(running, host) as hold:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                body = body_of(text=f"flood {number}")
                group.create_task(request(running.port, body, X_OpenWebUI_User_Id="flood"))
                await waiting(running, number + 1)
            for number in range(2):
                body = body_of(text=f"light {number}")
                group.create_task(request(running.port, body, X_OpenWebUI_User_Id="light"))
                await waiting(running, number + 11)
            await hold.release()
        order = order_of(host)[1:]
        assert order.index("light 0") <= 1
        assert order.index("light 1") <= 3
        assert [text for text in order if "flood" in text] == [f"flood {n}" for n in range(10)]


async def test_classes_by_what_is_asked_and_by_header() -> None:
    async with sim() as host, serving(one_slot(host)) as running, Hold(running, host) as hold:
        title = "### Task:\nGenerate a concise, 3-5 word title"
        asked: list[tuple[dict[str, Any], dict[str, str]]] = [
            (body_of(text=title), {}),
            (body_of(text="said to be idle", stream=True), {"x_arriero_priority": "background"}),
            (body_of(text="whole"), {}),
            (body_of(text="streamed", stream=True), {}),
        ]
        async with asyncio.TaskGroup() as group:
            for number, (body, headers) in enumerate(asked):
                group.create_task(request(running.port, body, **headers))
                await waiting(running, number + 1)
            assert running.gateway.queue.depths() == (1, 1, 0, 2)
            status = await get(running.port, "/arriero/status")
            assert status.json["queue"] == {
                "interactive": 1, "default": 1, "embedding": 0, "background": 2,
            }  # fmt: skip
            page = (await get(running.port, "/metrics")).body.decode()
            assert 'arriero_queue_depth{priority="background"} 2.0' in page
            await hold.release()
        assert order_of(host)[1:] == ["streamed", "whole", title, "said to be idle"]


async def test_a_priority_that_does_not_exist_is_refused() -> None:
    async with sim() as host, serving(one_slot(host)) as running:
        answer = await request(running.port, x_arriero_priority="urgent")
        assert (answer.status, (answer.error or {})["param"]) == (400, "x-arriero-priority")


async def test_an_untrusted_key_names_nobody() -> None:
    async with sim() as host:
        config = one_slot(host, per_principal_max=1)
        access = replace(config.access, master_key_trusted=False)
        async with (
            serving(replace(config, access=access)) as running,
            Hold(running, host) as hold,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(request(running.port, X_OpenWebUI_User_Id="one"))
            await waiting(running, 1)
            second = await request(running.port, X_OpenWebUI_User_Id="two")
            assert second.status == 429
            await hold.release()


# -- limits


async def test_a_full_queue_says_so_and_when_to_come_back() -> None:
    async with sim() as host, serving(one_slot(host, length_max=2)) as running:
        async with Hold(running, host) as hold, asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(running.port)) for _ in range(2)]
            await waiting(running, 2)
            for stream in (False, True):
                refused = await ask(running.port, stream=stream)
                assert refused.status == 429
                assert (refused.error or {})["code"] == "queue_full"
                assert 1 <= int(refused.headers["retry-after"]) <= 60
                assert refused.headers["x-should-retry"] == "true"
            await hold.release()
        assert all(each.result().good for each in asked)
        assert running.gateway.metrics.queue_refusals.counts == {("length",): 2}


async def test_one_user_cannot_fill_the_queue() -> None:
    limits = {"length_max": 4, "per_principal_max": 2}
    async with sim() as host, serving(one_slot(host, **limits)) as running:
        async with Hold(running, host) as hold, asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(request(running.port, X_OpenWebUI_User_Id="flood"))
                await waiting(running, number + 1)
            refused = await request(running.port, X_OpenWebUI_User_Id="flood")
            assert refused.status == 429
            other = group.create_task(request(running.port, X_OpenWebUI_User_Id="other"))
            await waiting(running, 3)
            await hold.release()
        assert other.result().good
        assert running.gateway.metrics.queue_refusals.counts == {("principal",): 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_is_an_honest_error(*, stream: bool) -> None:
    limits = {"interactive_deadline_s": 0.1, "default_deadline_s": 0.1}
    async with sim() as host, serving(one_slot(host, **limits)) as running:
        async with Hold(running, host):
            late = await ask(running.port, stream=stream)
            assert late.status == 503
            assert (late.error or {})["code"] == "queue_timeout"
            assert 1 <= int(late.headers["retry-after"]) <= 60
        assert running.gateway.metrics.queue_refusals.counts == {("deadline",): 1}


async def test_a_stream_gets_heartbeats_while_it_waits() -> None:
    async with sim() as host:
        config = replace(one_slot(host), server=Server(port=0, heartbeat_s=0.05))
        async with serving(config) as running, Hold(running, host) as hold:
            async with asking(running.port, body_of(stream=True)) as asked:
                await asked.until(b": waiting")
                await hold.release()
                answer = await asked.answer()
            assert answer.good
            assert answer.comments >= 1


async def test_a_stream_whose_wait_was_in_vain_after_a_heartbeat_ends_with_an_error() -> None:
    async with sim() as host:
        config = replace(
            one_slot(host, interactive_deadline_s=0.3), server=Server(port=0, heartbeat_s=0.05)
        )
        async with serving(config) as running, Hold(running, host):
            late = await ask(running.port, stream=True)
            assert (late.status, late.comments > 0) == (200, True)
            assert (late.error or {})["code"] == "queue_timeout"
            assert not late.done


# -- leaving


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_leaves_the_queue(*, stream: bool) -> None:
    async with sim() as host, serving(one_slot(host)) as running, Hold(running, host) as hold:
        async with asking(running.port, body_of(stream=stream, text="left")):
            await waiting(running, 1)
        await waiting(running, 0)
        await hold.release()
        assert (await ask(running.port, text="stayed")).good
        assert order_of(host) == ["hold", "stayed"]


async def test_many_come_and_go_and_nothing_stays_behind() -> None:
    async with sim(decode_tps=3000) as host, serving(one_slot(host)) as running:

        async def client(number: int) -> None:
            async with asking(running.port, body_of(stream=number % 2 == 0)) as asked:
                if number % 3 == 0:
                    await asyncio.sleep(number / 2000)
                else:
                    assert (await asked.answer()).good

        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(client(number))
        await running.at_rest()
        assert host.stats.of(MODEL).waiting.most == 0
        cells = running.gateway.queue._cells.values()
        accounts = [
            one for cell in cells for each in cell.ledgers for one in each.accounts.values()
        ]
        assert accounts
        assert all(account.open == 0 and not account.places for account in accounts)


# -- hosts that come and go


async def test_who_waits_goes_to_whatever_host_appears() -> None:
    async with sim() as a, sim() as b, serving(one_slot(a, b)) as running:
        running.host("b").installed = {}
        async with Hold(running, a) as hold, asyncio.TaskGroup() as group:
            asked = group.create_task(ask(running.port))
            await waiting(running, 1)
            running.host("b").installed = running.host("a").installed  # pulled meanwhile
            assert (await asked).good
            assert order_of(b)
            await hold.release()


async def test_who_waits_in_vain_is_told_at_once() -> None:
    async with (
        sim() as host,
        serving(one_slot(host)) as running,
        Hold(running, host) as hold,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(ask(running.port))
        await waiting(running, 1)
        running.host("a").installed = {}
        answer = await asked
        assert (answer.status, (answer.error or {})["code"]) == (404, "model_not_found")
        await hold.release()


async def test_a_request_that_failed_elsewhere_goes_first() -> None:
    async with sim() as a, sim() as b, serving(one_slot(a, b)) as running:
        async with Hold(running, a) as hold_a, asyncio.TaskGroup() as group:
            b.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
            failing = group.create_task(ask(running.port, text="failing"))
            await eventually(lambda: b.stats.faults[Kind.HANG], "the attempt on b")
            later = group.create_task(ask(running.port, text="later"))
            await waiting(running, 1)
            b.kill()
            await waiting(running, 2)
            await hold_a.release()
            assert (await failing).good
            assert (await later).good
        assert order_of(a) == ["hold", "failing", "later"]


async def test_a_reload_keeps_those_who_wait() -> None:
    async with sim() as host:
        config = one_slot(host)
        async with serving(config, lambda: config) as running, Hold(running, host) as hold:
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(ask(running.port))
                await waiting(running, 1)
                running.reload()
                new = group.create_task(ask(running.port))
                await waiting(running, 2)
                await hold.release()
            assert asked.result().good
            assert new.result().good


async def test_a_dead_host_that_may_be_tried_again_holds_nobody_up() -> None:
    # They waited since before it died. Their turn must be judged by the time of now, or the host
    # is open to the queue and closed to them, for ever and in one go.
    brief = replace(CALM, ejection_s=0.2, ejection_max_s=0.2)
    one, two = (sim(num_parallel=1, decode_tps=40) for _ in "ab")
    async with one, two, serving(replace(one_slot(one, two), routing=brief)) as running:
        async with asyncio.TaskGroup() as group, asyncio.timeout(20):
            asked = [group.create_task(ask(running.port, stream=False)) for _ in range(8)]
            await eventually(lambda: running.gateway.queue.waiting == 6, "six wait")
            one.kill()
        assert [task.result() for task in asked if not task.result().good] == []
