"""The README keeps its word."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = re.search(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_code_stands_by_line_twelve():
    assert README[: README.index("```python")].count("\n") < 12


@pytest.mark.system
def test_the_example_runs_and_tells_the_two_users_apart(capsys):
    exec(compile(EXAMPLE.group(1), "README.md", "exec"), {})  # noqa: S102 - our own page
    alice, bob, _ = capsys.readouterr().out.strip().splitlines()
    assert alice.startswith("like")
    assert bob.startswith("dislike")


def test_every_make_target_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_api_table_names_only_routes_that_exist():
    routes = [
        (verb.upper(), prefix + path)
        for file in (ROOT / "daemon" / "api").glob("*.py")
        for prefix in re.findall(r'prefix="([^"]*)"', file.read_text())[:1] or [""]
        for verb, path in re.findall(r'@router\.(get|post|delete)\(\s*"([^"]*)"', file.read_text())
    ]
    named = re.findall(r"`(GET|POST|DELETE) (/v1/[^`]+)`", README)
    assert named
    for route in named:
        assert route in routes, route
