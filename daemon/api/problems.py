"""Every refusal as RFC 9457 problem+json: `code` for programs, `detail` for people, never what was sent."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from daemon.errors import EventRefused

PROBLEM_JSON = "application/problem+json"
Described = dict[str, Any]  # FastAPI's type for one entry of `responses`


class ProblemDetails(BaseModel):
    """The body of every answer that is not a success."""

    type: Annotated[str, Field(description="about:blank: the status says the kind, `code` the reason")] = "about:blank"
    title: Annotated[str, Field(description="the status in words")]
    status: int
    code: Annotated[str, Field(description="stable and machine-readable")]
    detail: Annotated[str, Field(description="one sentence for people; it never repeats what was sent")]


class Problem(HTTPException):
    """A refusal on its way out. An HTTPException, so that the framework lets it through wherever it is raised."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code


def install(app: FastAPI) -> None:
    """Answer every error of `app` by a problem."""
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(EventRefused, _answer_refused)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(StarletteHTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_failure)


def answer(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response."""
    details = ProblemDetails(title=HTTPStatus(status).phrase, status=status, code=code, detail=detail)
    return JSONResponse(details.model_dump(), status, dict(headers or {}), PROBLEM_JSON)


def documented(*statuses: int, own: Mapping[int, Described] | None = None) -> dict[int | str, Described]:
    """What a route's `responses` says: problems for `statuses`, and its `own` descriptions."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    responses: dict[int | str, Described] = {
        each: {"description": HTTPStatus(each).phrase, "content": content} for each in statuses
    }
    for status, description in (own or {}).items():
        responses[status] = description
    return responses


async def _answer_problem(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, Problem):
        raise problem
    request.state.code = problem.code
    return answer(problem.status_code, problem.code, problem.detail, problem.headers)


async def _answer_refused(_: Request, refused: Exception) -> Response:
    if not isinstance(refused, EventRefused):
        raise refused
    return answer(refused.status, refused.code, refused.sentence)


async def _answer_http(_: Request, error: Exception) -> Response:
    """The framework's own refusals: no such route, no such method, a body that is not JSON."""
    if not isinstance(error, StarletteHTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    return answer(error.status_code, phrase.lower().replace(" ", "_"), f"{phrase}.", error.headers)


async def _answer_failure(_: Request, __: Exception) -> Response:
    """A failure of ours. The framework raises it again afterwards, and the edge of the app logs it."""
    return answer(500, "internal_error", "the daemon failed; its log says where")


async def _answer_invalid(_: Request, error: Exception) -> Response:
    """Names places and what is needed there; the framework's own answer would repeat the input."""
    if not isinstance(error, RequestValidationError):
        raise error
    code, sentence = sentence_of(error)[:2]
    return answer(400 if code == "not_json" else 422, code, sentence)


def sentence_of(error: RequestValidationError) -> tuple[str, str, str | None]:
    """Code and sentence of what is wrong with a request, and the first place of it."""
    found = error.errors()[:3]
    if any(each["type"] == "json_invalid" for each in found):
        return "not_json", "the body must be JSON in UTF-8", None
    places = [_place(each["loc"], each["type"]) for each in found]
    sentences = [f"{place}: {each['type']}" for place, each in zip(places, found, strict=True)]
    return "wrong_request", "; ".join(sentences), places[0].removeprefix("body.") if places else None


def _place(location: tuple[str | int, ...], kind: str) -> str:
    """Where it is wrong. The name of a field that should not be there is content too."""
    known = location[:-1] if kind == "extra_forbidden" else location
    return ".".join(str(each) for each in known)
