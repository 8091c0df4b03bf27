"""What a client is told when something is wrong: JSON in the form of OpenAI's API, one sentence, no insides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

LONGEST = 300  # characters of a message: it may quote what was sent
ON_OUR_SIDE = "something went wrong in the server; its terminal says what"
STATUSES = {404: "there is nothing at this address", 405: "this address does not answer that method"}


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        message: one sentence for a person.
        code: for programs, such as "model_not_found".
        param: which field of the request it is about.
        headers: to send along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = status, message, code, param, headers

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        message = self.message if len(self.message) <= LONGEST else self.message[:LONGEST] + " ..."
        # what was sent may hold half of a surrogate pair, which no answer can
        message = message.encode("utf-8", "replace").decode("utf-8")
        return {"error": {"message": message, "type": self._type, "param": self.param, "code": self.code}}

    @property
    def _type(self) -> str:
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, headers=dict(self.headers or {}))


def install(app: FastAPI) -> None:
    """Makes every error that leaves the app one of these."""

    @app.exception_handler(ApiError)
    async def _refused(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def _not_found(request: Request, error: HTTPException) -> JSONResponse:
        message = STATUSES.get(error.status_code, str(error.detail))
        return ApiError(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, ON_OUR_SIDE).response()  # uvicorn prints the traceback where the server runs
