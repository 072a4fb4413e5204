import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.access import BEYOND_TENANT, GRANTS, Action, Allow, Deny, may, may_give

ACTIONS = st.sampled_from(Action)
SCOPES = st.frozensets(st.sampled_from(sorted(GRANTS)) | st.text(max_size=12))

HOST = frozenset({"events:write", "adapters:read", "predict"})
OPERATOR = frozenset({"operator"})


@pytest.mark.parametrize("action", [Action.RECORD, Action.READ, Action.PREDICT])
def test_a_host_may_record_read_and_predict(action):
    assert isinstance(may(HOST, action), Allow)


@pytest.mark.parametrize("action", [Action.ROLL_BACK, Action.FORGET, Action.TRAIN_BASIS, Action.OPERATE])
def test_a_host_may_not_administer(action):
    assert isinstance(may(HOST, action), Deny)


def test_an_operator_runs_the_system_but_does_not_speak_for_a_user():
    refused = {action for action in Action if isinstance(may(OPERATOR, action), Deny)}
    assert refused == {Action.RECORD, Action.PREDICT, Action.ADMIT_TENANTS}


def test_an_administrator_of_users_may_forget_but_not_train_a_basis():
    scopes = frozenset({"users:admin"})
    assert isinstance(may(scopes, Action.FORGET), Allow)
    assert isinstance(may(scopes, Action.TRAIN_BASIS), Deny)


def test_a_denial_names_the_scopes_that_would_do():
    assert (
        may(frozenset(), Action.FORGET).reason == "'forget' needs one of the scopes admin:erase, operator, users:admin"
    )


def test_every_action_is_granted_by_some_scope():
    assert frozenset().union(*GRANTS.values()) == frozenset(Action)


@given(ACTIONS)
def test_nobody_may_do_anything_without_a_scope(action):
    assert isinstance(may(frozenset(), action), Deny)


@given(SCOPES, ACTIONS)
def test_a_scope_nobody_knows_changes_nothing(scopes, action):
    assert may(scopes, action) == may(scopes & GRANTS.keys(), action)


@given(SCOPES, SCOPES, ACTIONS)
def test_more_scopes_never_take_a_right_away(some, more, action):
    if isinstance(may(some, action), Allow):
        assert isinstance(may(some | more, action), Allow)


@given(SCOPES, ACTIONS)
def test_what_is_allowed_is_in_the_table(scopes, action):
    granted = any(action in GRANTS.get(scope, ()) for scope in scopes)
    assert isinstance(may(scopes, action), Allow) == granted


@given(SCOPES, SCOPES)
def test_nobody_gives_what_reaches_beyond_a_tenant_but_who_admits_tenants(held, wanted):
    reaching = bool(wanted & BEYOND_TENANT)
    decision = may_give(held, wanted, own_tenant=True)
    assert isinstance(decision, Allow) == ("admin:tenants" in held if reaching else "operator" in held)


@given(SCOPES, SCOPES)
def test_in_another_tenant_only_who_admits_tenants_gives_scopes(held, wanted):
    assert isinstance(may_give(held, wanted, own_tenant=False), Allow) == ("admin:tenants" in held)


@pytest.mark.parametrize(
    ("scope", "actions"),
    [
        ("adapters:export", {Action.EXPORT}),
        ("admin:erase", {Action.FORGET}),
        ("admin:keys", {Action.ROTATE}),
        ("admin:tenants", {Action.ADMIT_TENANTS}),
    ],
)
def test_a_narrow_scope_grants_one_thing(scope, actions):
    assert {action for action in Action if isinstance(may(frozenset({scope}), action), Allow)} == actions
