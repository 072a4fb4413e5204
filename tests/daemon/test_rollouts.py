"""Rollouts over HTTP: arms, outcomes of the version that answered, the decision, and the way back to an instant."""

import json
from datetime import timedelta

import pytest

from daemon import clock
from daemon.answer_token import Answered
from daemon.commands import parser
from storage import FinishedRun, NewRollout, Served, Serving

WANTED = {"name": "summer", "control": "generic", "share": 0.5, "least_users": 5, "outcomes_per_user": 1}


def start(world, **changes):
    return world.client.post("/v1/rollouts", json=WANTED | changes, headers=world.token())


def people(world, event, count: int) -> list[str]:
    """Users with an adapter each; their internal ids."""
    for number in range(count):
        world.post(event(1, f"user-{number}"))
        world.give_adapter(f"user-{number}", b"adapter", "f" * 64)
    return [world.internal_id(f"user-{number}") for number in range(count)]


def serving(world, user: str) -> Serving:
    current = world.service.parts.store.current_version(user)
    return Serving(user, current and Served(current.version, current.digest, current.basis), None)


def answer(world, user: str | None, number: int = 0, rollout: int | None = None, arm: str | None = None) -> str:
    """The token of an answer."""
    given = Answered(f"answer-{user}-{number}", user, 1, "d" * 64, rollout, arm, "good", False, clock.now())
    return world.service.parts.answering.tokens.seal(world.tenant, given)


def outcome(event, token: object, value: object, number: int = 1, **changes):
    data = {"answer": token, "value": value}
    return event(number, type="plora.outcome.v1", subject=..., data=data, **changes)


def test_a_rollout_is_started_shown_and_ended_by_hand(world):
    started = start(world)
    assert started.status_code == 201
    number = started.json()["id"]
    assert start(world).json()["code"] == "rollout_open"
    shown = world.client.get(f"/v1/rollouts/{number}", headers=world.token()).json()
    assert (shown["state"], shown["code"], shown["arms"]) == ("open", "too_few_users", [])
    assert shown["rules"]["least_users"] == 5
    assert world.client.get("/v1/rollouts", headers=world.token()).json()["rollouts"][0]["name"] == "summer"
    path = f"/v1/rollouts/{number}/end"
    ended = world.client.post(path, json={"decision": "cancel"}, headers=world.token())
    assert (ended.json()["state"], ended.json()["code"]) == ("cancelled", "ended_by_hand")
    again = world.client.post(path, json={"decision": "promote"}, headers=world.token())
    assert (again.status_code, again.json()["code"]) == (409, "rollout_ended")


def test_users_are_drawn_into_arms_and_stay_there(world, event):
    users = people(world, event, 12)
    rollouts, number = world.service.parts.rollouts, start(world).json()["id"]
    chosen = [rollouts.choose(world.tenant, serving(world, user)) for user in users]
    assert {(each.arm, each.served is None) for each in chosen} == {("current", False), ("generic", True)}
    assert {each.rollout for each in chosen} == {number}
    assert chosen == [rollouts.choose(world.tenant, serving(world, user)) for user in users]
    nobody = rollouts.choose(world.tenant, Serving("0" * 32, None, None))
    assert (nobody.served, nobody.arm) == (None, None)  # both arms would be the generic model
    explained = world.client.get("/v1/users/user-0/explanation", headers=world.token()).json()
    assert explained["rollout"] == {"rollout": number, "arm": chosen[0].arm}
    assert world.client.get("/v1/status", headers=world.token("operator")).json()["rollouts"] == 1


def test_who_has_no_version_before_is_in_no_arm_of_a_rollout_against_it(world, event):
    (user,) = people(world, event, 1)
    start(world, control="previous")
    rollouts = world.service.parts.rollouts
    assert rollouts.needs_previous(world.tenant)
    assert rollouts.choose(world.tenant, serving(world, user)).arm is None


def tell(world, event, users, value) -> int:
    """An outcome of every user's answer, by the arm that they are in; how many were in the treatment."""
    rollouts, sent, treated = world.service.parts.rollouts, [], 0
    for place, user in enumerate(users):
        chosen = rollouts.choose(world.tenant, serving(world, user))
        treated += chosen.arm == "current"
        token = answer(world, user, place, chosen.rollout, chosen.arm)
        sent.append(outcome(event, token, value(chosen.arm), place))
    headers = world.token() | {"Content-Type": "application/cloudevents-batch+json"}
    told = world.client.post("/v1/events", content=json.dumps(sent), headers=headers)
    assert {each["outcome"] for each in told.json()["outcomes"]} == {"stored"}
    return treated


@pytest.mark.parametrize(
    ("winner", "state", "left"), [("current", "promoted", 120), ("generic", "rolled_back", 0)], ids=["wins", "loses"]
)
def test_outcomes_decide_and_everybody_is_served_what_won(world, event, winner, state, left):
    users, number = people(world, event, 120), start(world).json()["id"]
    treated = tell(world, event, users, lambda arm: 1.0 if arm == winner else 0.0)
    store, rollouts = world.service.parts.store, world.service.parts.rollouts
    shown = world.client.get(f"/v1/rollouts/{number}", headers=world.token()).json()
    assert {each["arm"]: each["users"] for each in shown["arms"]} == {"current": treated, "generic": 120 - treated}
    rollouts.look(clock.now())
    ended = world.client.get(f"/v1/rollouts/{number}", headers=world.token()).json()
    assert ended["state"] == state
    assert "on 120 users" in ended["reason"]
    assert store.health(clock.now()).current_adapters == left
    assert rollouts.choose(world.tenant, serving(world, users[0])).arm is None
    assert f'plora_rollouts_total{{end="{state}"}} 1.0' in world.client.get("/metrics").text
    assert store.verify_audit().ok


def test_an_outcome_is_counted_once_and_named_if_it_cannot_be(world, event):
    user, told = people(world, event, 1)[0], []
    for token in (answer(world, user), answer(world, user), answer(world, None), "no token"):
        told.append(world.post(outcome(event, token, 1, len(told))))
    assert [each.status_code for each in told] == [202, 202, 202, 422]
    assert [each.json().get("outcome") for each in told[:3]] == ["stored", "duplicate", "ignored"]
    assert told[3].json()["code"] == "wrong_answer"
    world.client.delete("/v1/users/user-0", headers=world.token())
    gone = world.post(outcome(event, answer(world, user, 7), 1, 9))
    assert (gone.status_code, gone.json()["code"]) == (409, "user_forgotten")


@pytest.mark.parametrize("value", [-0.1, 1.5, True, "1", None, 10**400])
def test_a_value_is_a_number_from_0_to_1(world, event, value):
    assert world.post(outcome(event, "a", value)).json()["code"] == "wrong_field"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"value": 1}, "missing_field"),
        ({"answer": "a"}, "missing_field"),
        ({"answer": "", "value": 1}, "wrong_field"),
        ({"answer": "a", "value": 1, "text": "b"}, "unexpected_field"),
        ([], "wrong_data"),
    ],
)
def test_an_outcome_is_an_answer_and_a_value(world, event, data, code):
    assert world.post(event(1, type="plora.outcome.v1", data=data)).json()["code"] == code


@pytest.mark.parametrize(
    "changes",
    [
        {"control": "current"},
        {"share": 0},
        {"share": 1},
        {"share": "half"},
        {"name": "a b"},
        {"least_users": 0},
        {"error": 0.7},
        {"undecided": "wait"},
        {"more": 1},
    ],
)
def test_what_is_no_rollout_is_refused(world, changes):
    assert start(world, **changes).status_code == 422


def test_only_who_may_roll_back_may_start_and_end(world):
    reader = world.caller("adapters:read")
    assert world.client.post("/v1/rollouts", json=WANTED, headers=reader).status_code == 403
    assert world.client.post("/v1/rollback", json={"to": "2031-01-01"}, headers=reader).status_code == 403
    number = start(world).json()["id"]
    assert world.client.get(f"/v1/rollouts/{number}", headers=reader).status_code == 200
    assert world.client.get("/v1/rollouts/77", headers=reader).json()["code"] == "unknown_rollout"
    other = world.service.parts.store.ensure_tenant("other", clock.now()).id
    foreign = world.caller("users:admin", tenant=other)
    assert world.client.get(f"/v1/rollouts/{number}", headers=foreign).status_code == 404
    assert (
        world.client.post(f"/v1/rollouts/{number}/end", json={"decision": "cancel"}, headers=foreign).status_code == 404
    )


def test_a_rollout_that_was_cut_short_in_moving_users_goes_on(world, event):
    people(world, event, 3)
    store, rollouts = world.service.parts.store, world.service.parts.rollouts
    opened = rollouts.start_one(world.tenant, NewRollout("a", "generic", 0.5, "{}"), "op")
    store.end_rollout(
        opened.id, "returning", ("surely_not_better", "it is not"), "op", clock.now() + timedelta(days=9_999)
    )
    rollouts.look(clock.now())
    assert store.rollout(world.tenant, opened.id).state == "rolled_back"
    assert store.health(clock.now()).current_adapters == 0


def back(world, to) -> object:
    return world.client.post("/v1/rollback", json={"to": to}, headers=world.token())


def promote(world, user: str) -> None:
    """A version made now, by the clock that the daemon reads too."""
    store = world.service.parts.store
    store.open_run(user, "f" * 64, "a test", clock.now())
    (run,) = store.claim_runs("test", 1, 60, clock.now())
    made = FinishedRun(b"adapter", True, "beats_generic", "a reason", "{}", "ba5e", "f" * 64, 1)
    store.finish_run(run.id, run.epoch, made, clock.now())


def test_the_population_goes_back_to_an_instant(world, event):
    for name in ("ann", "bob", "eve"):
        world.post(event(1, name))
    ann, bob, eve = (world.internal_id(name) for name in ("ann", "bob", "eve"))
    promote(world, ann)
    then = clock.now()
    for user in (ann, ann, bob, eve):
        promote(world, user)
    world.client.post("/v1/users/eve/rollback", json={"to": 0}, headers=world.token())
    assert back(world, then.isoformat()).json() == {"users": 2}
    store = world.service.parts.store
    assert [store.current_version(user) is None for user in (ann, bob, eve)] == [False, True, True]
    assert store.current_version(ann).version == 1
    assert back(world, then.isoformat()).json() == {"users": 0}
    assert 'plora_versions_total{decision="rolled_back"} 3.0' in world.client.get("/metrics").text


def test_an_instant_that_is_none_of_the_last_days_is_refused(world):
    ahead = clock.now() + timedelta(hours=1)
    assert back(world, ahead.isoformat()).json()["code"] == "wrong_instant"
    for long_ago in ("0001-01-01T00:00:00+14:00", "1999-01-01T00:00:00", "9999-12-31T23:59:59-14:00", 0):
        told = back(world, long_ago)
        assert told.status_code == 409, long_ago
        assert told.json()["code"] in {"too_long_ago", "wrong_instant"}
    assert back(world, "yesterday").status_code == 422
    assert back(world, None).status_code == 422


def test_the_commands_send_what_is_asked_for():
    def sent(*words: str):
        return parser().parse_args(words)

    assert sent("rollout", "start", "summer", "--share", "0.1", "--least-users", "9").least_users == 9
    assert sent("rollout", "end", "3", "roll_back").decision == "roll_back"
    assert sent("rollback", "--all", "--to", "2031-01-01T00:00:00Z").all
    with pytest.raises(SystemExit):
        sent("rollback", "--all", "ann", "--to", "1")
    with pytest.raises(SystemExit):
        sent("rollback")
