"""`query_many` of both clients: order, errors in their places, what is asked ahead, streams that break or are left."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from datetime import datetime, timezone

import pytest
from fake_server import FakeServer, Refusal

from thyme import _proto, errors
from thyme.aio import AsyncClient
from thyme.client import Client
from thyme.many import AHEAD, Backlog, Sending
from thyme.values import from_value, to_value

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)


class Plain:
    """The client, and how its answers are taken."""

    def __init__(self, url, **settings):
        self.client = Client(url, url, **settings)
        self.taken = []

    def ask(self, *given, **named):
        self.taken.append(self.client.query_many("UserFeatures", *given, **named))
        return self.taken[-1]

    def stop(self, answers):
        answers.close()

    def until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            self.pause()

    def pause(self):
        time.sleep(0.01)

    def channel(self):
        """What puts a key in, None at the end, and the keys."""
        found = queue.Queue()
        return found.put, iter(found.get, None)

    def end(self):
        self.client.close()


class Awaited(Plain):
    """The same of the asyncio client, whose loop runs whenever something is waited for."""

    def __init__(self, url, **settings):
        self.loop = asyncio.new_event_loop()
        self.client = self.wait_for(self.connect(url, settings))
        self.taken = []

    async def connect(self, url, settings):
        return AsyncClient(url, url, **settings)

    def ask(self, *given, **named):
        self.taken.append(self.wait_for(self.begin(given, named)))
        return OneByOne(self.taken[-1], self.wait_for)

    async def begin(self, given, named):
        return self.client.query_many("UserFeatures", *given, **named)

    def stop(self, _):
        self.wait_for(self.taken[-1].aclose())

    def pause(self):
        self.wait_for(asyncio.sleep(0.01))

    def channel(self):
        found = asyncio.Queue()

        async def keys():
            while (key := await found.get()) is not None:
                yield key

        return found.put_nowait, keys()

    def end(self):
        self.wait_for(self.client.close())
        self.loop.close()

    def wait_for(self, work):
        return self.loop.run_until_complete(work)


class OneByOne:
    def __init__(self, answers, wait_for):
        self.answers, self.wait_for = answers, wait_for

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.wait_for(self.one())
        except StopAsyncIteration:
            raise StopIteration from None

    async def one(self):
        return await anext(self.answers)


@pytest.fixture
def server():
    running = FakeServer()
    running.answers = {"StreamFeatures": answered, "GetFeatures": answer, "ListFeaturesets": listed}
    yield running
    running.stop()


@pytest.fixture(params=[Plain, Awaited])
def asking(request, server):
    found = request.param(server.url, retry_for=2.0)
    yield found
    found.end()


def listed(_):
    features = [_proto.FeatureInfo(name="uid", type="str"), _proto.FeatureInfo(name="length", type="int")]
    info = _proto.FeaturesetInfo(name="UserFeatures", keys=["uid"], features=features)
    return _proto.ListFeaturesetsResponse(featuresets=[info])


def answer(request):
    found = _proto.FeatureValue(name="length", value=to_value(len(from_value(request.key["uid"]))), status=1)
    info = _proto.AnswerInfo(mode=2, ts=request.ts, position=request.known_at)
    return _proto.GetFeaturesResponse(featureset="UserFeatures", key=request.key, features=[found], info=info)


def answered(requests):
    for asked in requests:
        yield _proto.StreamFeaturesResponse(sequence=asked.sequence, response=answer(asked.request))


def names(count):
    return [f"user-{number}" for number in range(count)]


def users(answers):
    return [found["uid"][0] for found in answers]


def test_a_question_carries_everything_and_its_own_deadline(server, asking):
    found = list(asking.ask(["u1", {"uid": "u22"}], NOON, "pAA", True, [{"basket": 2.5}, {"basket": 3.5}], ["length"]))
    first, second = server.requests("StreamFeatures")
    assert (first.sequence, second.sequence) == (0, 1)
    assert (first.timeout.seconds, first.timeout.nanos) == (30, 0)
    assert (first.request.ts.seconds, first.request.known_at, first.request.exclusive) == (1_705_320_000, "pAA", True)
    assert [asked.request.inputs["basket"].double_value for asked in (first, second)] == [2.5, 3.5]
    assert [list(asked.request.features) for asked in (first, second)] == [["length"]] * 2
    assert [result.to_dicts() for result in found] == [[{"uid": "u1", "length": 2}], [{"uid": "u22", "length": 3}]]
    assert [(result.ts, result.position, result.columns[1].type) for result in found] == [(NOON, "pAA", "int")] * 2


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_the_timeout_of_the_client_is_that_of_each_question(server, kind):
    asking = kind(server.url, timeout=1.5)
    assert users(asking.ask(["u1"])) == ["u1"]
    (asked,) = server.requests("StreamFeatures")
    assert (asked.timeout.seconds, asked.timeout.nanos) == (1, 500_000_000)
    asking.end()


def test_keys_are_taken_only_as_answers_are(server, asking):
    taken = 0

    def keys():
        nonlocal taken
        for name in names(500):
            taken += 1
            yield name

    answers = asking.ask(keys())
    assert users([next(answers)]) == ["user-0"]
    asking.until(lambda: taken == AHEAD + 1)
    asking.until(lambda: len(server.requests("StreamFeatures")) == AHEAD + 1)
    for _ in range(20):
        asking.pause()
    assert taken == AHEAD + 1
    assert users(answers) == names(500)[1:]
    assert [asked.sequence for asked in server.requests("StreamFeatures")] == list(range(500))


def test_a_key_may_depend_on_the_answer_before_it(asking):
    """An answer does not wait until more is asked."""
    put, keys = asking.channel()
    answers = asking.ask(keys)
    for length in range(1, 20):
        put("x" * length)
        assert next(answers)["length"] == [length]
    put(None)
    assert list(answers) == []


def test_what_is_told_before_it_is_sent_is_not_sent():
    """A key that cannot be asked for may be told before the sender comes to it: what follows keeps its number."""
    backlog = Backlog()
    backlog.asked.extend(["first", errors.InvalidArgumentError("no value"), "third", "fourth"])
    sending = Sending(backlog)
    assert sending.next() == (0, "first")
    backlog.take()
    backlog.take()
    assert sending.next() == (2, "third")
    for _ in range(2):
        backlog.take()
    backlog.asked.append("fifth")
    assert sending.next() == (4, "fifth") and not sending.is_due()


def test_an_answer_to_another_question_is_none(server, asking):
    """It ends the stream, and the question is asked by itself."""

    def mixed(requests):
        first = next(requests)
        yield _proto.StreamFeaturesResponse(sequence=first.sequence, response=answer(first.request))
        for asked in requests:
            yield _proto.StreamFeaturesResponse(sequence=asked.sequence + 1, response=answer(first.request))

    server.answers["StreamFeatures"] = mixed
    keys = names(10)
    assert users(asking.ask(keys)) == keys


def test_an_error_stands_in_its_place(server, asking):
    wrong = {
        "user-3": Refusal(3, "no such key", "invalid_argument", "key", "try another"),
        "user-7": Refusal(5, "gone"),
    }

    def some(requests):
        for asked in requests:
            refusal = wrong.get(from_value(asked.request.key["uid"]))
            told = {"error": refusal.part} if refusal else {"response": answer(asked.request)}
            yield _proto.StreamFeaturesResponse(sequence=asked.sequence, **told)

    server.answers["StreamFeatures"] = some
    keys = names(100)
    keys[5] = object()
    answers = asking.ask(keys)
    assert users([next(answers) for _ in range(3)]) == keys[:3]
    with pytest.raises(errors.InvalidArgumentError, match="no such key .hint: try another") as caught:
        next(answers)
    assert caught.value.field == "key"
    assert users([next(answers)]) == keys[4:5]
    with pytest.raises(errors.InvalidArgumentError, match="a object is no value"):
        next(answers)
    assert users([next(answers)]) == keys[6:7]
    with pytest.raises(errors.NotFoundError, match="gone"):
        next(answers)
    assert users(answers) == keys[8:]
    assert server.requests("GetFeatures") == []


def test_an_error_of_the_keys_comes_after_the_answers(asking):
    def keys():
        yield from names(3)
        raise ZeroDivisionError("no more")

    answers = asking.ask(keys())
    assert users([next(answers) for _ in range(3)]) == names(3)
    with pytest.raises(ZeroDivisionError, match="no more"):
        next(answers)
    assert list(answers) == []


def test_inputs_that_end_are_an_error_of_the_keys_without(asking):
    answers = asking.ask(names(3), inputs=[{"basket": 1.0}, {"basket": 2.0}])
    assert users([next(answers), next(answers)]) == names(2)
    with pytest.raises(errors.InvalidArgumentError, match="there are more keys than inputs"):
        next(answers)
    assert list(answers) == []


@pytest.mark.parametrize("keys", ["user-1", 7])
def test_what_is_no_keys_is_refused(asking, keys):
    with pytest.raises(errors.InvalidArgumentError, match="keys takes keys one by one"):
        next(asking.ask(keys))


def test_a_question_that_cannot_be_answered_now_is_asked_again_by_itself(server, asking):
    refusals = [Refusal(14, "moving", "unavailable")] * 2

    def some(requests):
        for asked in requests:
            is_away = from_value(asked.request.key["uid"]) == "user-3"
            told = {"error": refusals[0].part} if is_away else {"response": answer(asked.request)}
            yield _proto.StreamFeaturesResponse(sequence=asked.sequence, **told)

    left = list(refusals)

    def later(request):
        if left:
            raise left.pop()
        return answer(request)

    server.answers.update(StreamFeatures=some, GetFeatures=later)
    assert users(asking.ask(names(10))) == names(10)
    assert [from_value(asked.key["uid"]) for asked in server.requests("GetFeatures")] == ["user-3"] * 3
    assert len(server.requests("StreamFeatures")) == 10


@pytest.mark.parametrize(
    "end", [Refusal(14, "stopping", "unavailable"), Refusal(14, "reset"), Refusal(13, "broken"), None]
)
def test_a_stream_that_breaks_is_begun_again(server, asking, end):
    """Each gives seven answers."""

    def breaking(requests):
        for number, asked in enumerate(requests):
            if number == 7:
                if end is None:
                    return
                raise end
            yield _proto.StreamFeaturesResponse(sequence=asked.sequence, response=answer(asked.request))

    server.answers["StreamFeatures"] = breaking
    assert users(asking.ask(names(100))) == names(100)
    alone = [int(from_value(asked.key["uid"]).removeprefix("user-")) for asked in server.requests("GetFeatures")]
    # With asyncio gRPC may lose answers that came just before the end.
    assert alone == list(range(7, 100, 8)) or isinstance(asking, Awaited)
    assert all(0 < later - earlier <= 8 for earlier, later in zip([-1, *alone], [*alone, 100], strict=True))


def test_an_error_of_the_stream_is_told_by_the_call_in_its_place(server, asking):
    """A key that may not be asked for, or a server that offers no streams and refuses the second key."""

    def refusing(request):
        if from_value(request.key["uid"]) == "user-1":
            raise Refusal(7, "not yours", "permission_denied")
        return answer(request)

    server.answers["GetFeatures"] = refusing
    del server.answers["StreamFeatures"]
    answers = asking.ask(names(3))
    assert users([next(answers)]) == ["user-0"]
    with pytest.raises(errors.PermissionDeniedError, match="not yours"):
        next(answers)
    assert users(answers) == ["user-2"]


def test_who_cannot_be_reached_is_an_error_once_the_tries_have_ended():
    for kind in (Plain, Awaited):
        asking = kind("http://127.0.0.1:1", retry_for=0.1)
        with pytest.raises(errors.UnavailableError, match="cannot reach http://127.0.0.1:1"):
            next(asking.ask(["u1"]))
        asking.end()


def test_who_stops_early_ends_the_call_and_the_keys(server, asking):
    has_ended = []

    def keys():
        try:
            yield from names(500)
        finally:
            has_ended.append("keys")

    def watched(requests):
        try:
            yield from answered(requests)
        finally:
            has_ended.append("call")

    server.answers["StreamFeatures"] = watched
    answers = asking.ask(keys())
    next(answers)
    asking.stop(answers)
    asking.until(lambda: len(has_ended) == 2)
    assert list(answers) == []
    assert len(server.requests("StreamFeatures")) <= AHEAD + 1


def test_answers_that_nobody_holds_are_as_good_as_closed(server):
    asking = Plain(server.url)
    threads = threading.active_count()
    answers = asking.ask(names(500))
    next(answers)
    asking.taken.clear()
    del answers
    asking.until(lambda: threading.active_count() <= threads + 1)  # gRPC keeps one for its connections
    assert len(server.requests("StreamFeatures")) <= AHEAD + 1
    asking.end()
