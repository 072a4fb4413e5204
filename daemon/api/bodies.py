"""Bodies of requests as JSON, read as strictly as events are: no nesting beyond a depth, no key twice, no NaN."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from daemon.api.problems import Problem
from daemon.cloudevents import read_json
from daemon.errors import MalformedEvent


class StrictRequest(Request):
    """A request whose JSON is checked before it is parsed."""

    async def json(self) -> Any:
        """The parsed body. Answers 400 when it is not plain JSON."""
        try:
            return read_json(await self.body())
        except MalformedEvent as refused:
            raise Problem(refused.status, refused.code, refused.sentence) from None


class StrictRoute(APIRoute):
    """A route that reads its body so. Give it to a router: `APIRouter(route_class=StrictRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def read_strictly(request: Request) -> Response:
            return await answer(StrictRequest(request.scope, request.receive))

        return read_strictly
