"""/docs: every route of this API on one page without a script, so that nothing is loaded from anywhere."""

from collections.abc import Callable, Mapping
from html import escape

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

STYLE = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto}td{padding:.2em 1em .2em 0;vertical-align:top}"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
Document = Mapping[str, object]


def router_of(document: Callable[[], Document]) -> APIRouter:
    """A router with the page of this OpenAPI document."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs", response_class=HTMLResponse)
    def show_routes() -> HTMLResponse:
        return HTMLResponse(page(document()), headers={"Content-Security-Policy": POLICY})

    return router


def page(document: Document) -> str:
    """The page. Tools that show more take /openapi.json."""
    rows = "".join(_rows(_object(document["paths"])))
    info = _object(document["info"])
    title = escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1><p>{escape(str(info.get('description', '')))}</p><table>{rows}</table>"
        '<p>In full, for tools: <a href="/openapi.json">OpenAPI</a></p></body></html>'
    )


def _rows(paths: Document) -> list[str]:
    rows = []
    for path, operations in paths.items():
        for method, operation in _object(operations).items():
            told = _object(operation)
            statuses = ", ".join(str(each) for each in _object(told["responses"]))
            cells = (method.upper(), path, str(told.get("summary", "")), statuses)
            rows.append("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in cells) + "</tr>")
    return rows


def _object(value: object) -> Document:
    if not isinstance(value, dict):
        raise TypeError("not an OpenAPI document")
    return value
