"""Error responses in the JSON format of OpenAI's API. No message reveals internals of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MAX_MESSAGE = 300  # characters; a message may quote the request
INTERNAL_ERROR = "internal server error: see the terminal that the server runs in"
STATUS_MESSAGES = {404: "there is nothing at this address", 405: "this address does not support the method"}


class ApiError(Exception):
    """A request is refused.

    Args:
        status: the HTTP status.
        message: one sentence for people.
        code: for programs, such as "model_not_found".
        param: the field of the request that is wrong.
        headers: additional headers of the response.
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
        """The JSON body, as OpenAI's clients parse it."""
        message = self.message if len(self.message) <= MAX_MESSAGE else self.message[:MAX_MESSAGE] + " ..."
        # a quoted request may contain a lone surrogate, which UTF-8 cannot encode
        message = message.encode("utf-8", "replace").decode("utf-8")
        return {"error": {"message": message, "type": self._type, "param": self.param, "code": self.code}}

    @property
    def _type(self) -> str:
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, headers=dict(self.headers or {}))


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error of the app a response of this format."""

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def _http_exception(request: Request, error: HTTPException) -> JSONResponse:
        message = STATUS_MESSAGES.get(error.status_code, str(error.detail))
        return ApiError(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def _internal_error(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, INTERNAL_ERROR).response()  # uvicorn prints the traceback in the server's terminal
