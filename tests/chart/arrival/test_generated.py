"""C3: the values, their schema, the README's table, the dashboards and the rules are what the code says today."""

import pytest

pytest.importorskip("pydantic", reason="the daemon's packages are not in this environment")


def test_nothing_of_the_chart_has_drifted(capsys):
    main = pytest.importorskip("helm.generate.__main__")
    assert main.main(["--check"]) == 0, capsys.readouterr().out
