"""Refusals as clients of OpenAI's API read them: {"error": {"message", "type", "param", "code"}}."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from daemon.api.bodies import StrictRoute
from daemon.api.problems import Problem, sentence_of
from daemon.errors import EventRefused


class Fault(BaseModel):
    """Why a request was refused."""

    message: str
    type: str
    param: str | None
    code: str


class Refusal(BaseModel):
    """A refusal, as OpenAI's API has it."""

    error: Fault


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's `responses` says of these."""
    return {each: {"model": Refusal, "description": HTTPStatus(each).phrase} for each in statuses}


KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(status: int, code: str, sentence: str, param: str | None = None) -> dict[str, object]:
    """The JSON of a refusal."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": sentence, "type": kind, "param": param, "code": code}}


class OpenAIRoute(StrictRoute):
    """A route whose refusals have that form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_in_form(request: Request) -> Response:
            try:
                return await answer(request)
            except Problem as problem:
                request.state.code = problem.code
                body = error_body(problem.status_code, problem.code, problem.detail)
                return JSONResponse(body, problem.status_code, dict(problem.headers or {}))
            except EventRefused as refused:
                return JSONResponse(error_body(refused.status, refused.code, refused.sentence), refused.status)
            except RequestValidationError as error:
                code, sentence, param = sentence_of(error)
                return JSONResponse(error_body(400, code, sentence, param), 400)

        return answer_in_form
