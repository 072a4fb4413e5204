"""Settings from the environment."""

import contextlib
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.settings import InvalidSetting, Settings, SettingsError, UnknownSetting, defaults, load


def test_without_variables_every_setting_has_its_default():
    assert load({"PATH": "/bin", "PLORA_DATA": "reviews.jsonl"}) == Settings()


def test_a_variable_reaches_its_field_and_the_policy_behind_it():
    settings = load(
        {
            "PLORA_DATA_DIR": "/srv/d",
            "PLORA_KEYS_DIR": "~/k",
            "PLORA_PORT": "9000",
            "PLORA_DEFAULT_CONSENT": "yes",
            "PLORA_LEASE_S": "2.5",
            "PLORA_TRIGGER_MIN_FRESH": "3",
            "PLORA_TRIGGER_MAX_WAIT_S": "60",
            "PLORA_PROMOTION_MIN_GAIN": "0.25",
            "PLORA_BASIS_RANK": "4",
        }
    )
    assert settings.data_dir == Path("/srv/d")
    assert settings.keys_path == Path.home() / "k"
    assert (settings.port, settings.default_consent, settings.lease_s) == (9000, True, 2.5)
    assert (settings.trigger.min_fresh, settings.trigger.max_wait_s) == (3, 60.0)
    assert (settings.promotion.min_gain, settings.basis.rank, settings.basis.dim) == (0.25, 4, None)


def test_keys_lie_beside_the_data_by_default(tmp_path: Path):
    assert Settings(data_dir=tmp_path / "var").keys_path == tmp_path / "var-keys"


def test_an_unknown_variable_is_named_with_the_nearest():
    with pytest.raises(UnknownSetting, match=r"PLORA_TRIGER_MIN_FRESH.*did you mean PLORA_TRIGGER_MIN_FRESH"):
        load({"PLORA_TRIGER_MIN_FRESH": "3"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLORA_PORT", "x"),
        ("PLORA_PORT", "70000"),
        ("PLORA_PORT", "1.5"),
        ("PLORA_LEASE_S", "nan"),
        ("PLORA_LEASE_S", "inf"),
        ("PLORA_LEASE_S", "0"),
        ("PLORA_REPLICAS", "0"),
        ("PLORA_BASIS_WORKERS", "0"),
        ("PLORA_BASIS_ACCUMULATE", "0"),
        ("PLORA_BASIS_PATIENCE", "0"),
        ("PLORA_BASIS_HELD_OUT", "1"),
        ("PLORA_BASIS_LEARNING_RATE", "0"),
        ("PLORA_BASIS_SHARD_BYTES", "100"),
        ("PLORA_BASIS_LINK", "ordered"),
        ("PLORA_TRAINER", "thread"),
        ("PLORA_MODEL_KIND", "seq2seq"),
        ("PLORA_DEFAULT_CONSENT", "maybe"),
        ("PLORA_MAX_BATCH_BYTES", "10"),
        ("PLORA_KEYS_DIR", "var/keys"),
        ("PLORA_KEYS_DIR", "var/../var"),
        ("PLORA_TRIGGER_MIN_FRESH", "0"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: str):
    with pytest.raises(InvalidSetting, match=name.split("_")[1]) as caught:
        load({name: value})
    assert pickle.loads(pickle.dumps(caught.value)).name == caught.value.name  # noqa: S301


@given(st.sampled_from([name for name, _ in defaults()]), st.text(alphabet=st.characters(exclude_characters="\0")))
def test_no_value_is_more_than_refused(name: str, value: str):
    with contextlib.suppress(SettingsError):
        load({name: value})
