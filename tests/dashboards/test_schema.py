"""The boards against Grafana's own types, in TypeScript. Needs npm and its registry; skipped without."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.pictures import boards

PINNED = ("@grafana/schema@13.2.3", "typescript@5.9.3")
CHECK = """
import {{ Dashboard, Panel, RowPanel }} from '@grafana/schema';
import {{ Options as Lines, FieldConfig }} from '{of}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import {{ Options as Stat }} from '{of}/stat/panelcfg/x/StatPanelCfg_types.gen';
import {{ Options as Bars }} from '{of}/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
type Some<T> = {{ [K in keyof T]?: T[K] extends object | undefined ? Some<T[K]> : `${{T[K] & string}}` | T[K] }};
export const board: Plain<Dashboard> = {board};
export const lines: Some<Lines>[] = {lines};
export const drawing: Some<FieldConfig>[] = {drawing};
export const stats: Some<Stat>[] = {stats};
export const bars: Some<Bars>[] = {bars};
type Number<T extends number> = `${{T}}` extends `${{infer N extends number}}` ? N : T;
type Plain<T> = T extends (infer E)[] ? Plain<E>[]
    : T extends object ? {{ [K in keyof T]: Plain<T[K]> }}
    : T extends string ? `${{T}}` : T extends number ? Number<T> : T;
"""
OPTIONS = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
    "--target",
    "es2022",
]


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grafana")
    if shutil.which("npm") is None:
        pytest.skip("npm is not here")
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps", *PINNED]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("npm's registry does not answer")
    return folder


def checked(grafana: Path, board: dict) -> str:
    """What the compiler has to say."""

    def of(kind: str) -> list[dict]:
        return [each for each in board["panels"] if each["type"] == kind]

    text = CHECK.format(
        of="@grafana/schema/dist/esm/raw/composable",
        board=json.dumps(board | {"annotations": {"list": [_ours(each) for each in board["annotations"]["list"]]}}),
        lines=json.dumps([each["options"] for each in of("timeseries")]),
        drawing=json.dumps([each["fieldConfig"]["defaults"]["custom"] for each in of("timeseries")]),
        stats=json.dumps([each["options"] for each in of("stat")]),
        bars=json.dumps([each["options"] for each in of("bargauge")]),
    )
    (grafana / "board.ts").write_text(text)
    command = ["node_modules/.bin/tsc", *OPTIONS, "board.ts"]
    return subprocess.run(command, cwd=grafana, capture_output=True, text=True, timeout=120, check=False).stdout


def _ours(annotation: dict) -> dict:
    """Without the fields that the datasource gives a meaning to: Grafana's types leave them out."""
    return {name: value for name, value in annotation.items() if name not in {"expr", "titleFormat", "textFormat"}}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(boards()))
def test_grafana_knows_every_field(grafana, name):
    assert checked(grafana, boards()[name]) == ""


@pytest.mark.long
def test_the_compiler_finds_a_wrong_field(grafana):
    board = boards()["plora-overview"]
    assert "does not exist" in checked(grafana, board | {"panles": []})
