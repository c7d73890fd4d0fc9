"""The upload route: announce, send pieces, complete, cancel; each answer is JSON, each refusal a sentence and a fitting status."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.errors import AppError
from app.titles import title_from
from app.web.parts import Served
from app.web.uploads import Upload, UploadRefused, UploadTooLarge
from retriever.errors import RetrieverError
from storage.errors import DiskFull, StorageError

PREFIX = "/askaloud/uploads"
TOKEN_HEADER = "x-askaloud-token"  # noqa: S105  a header's name
MAX_PIECE_BYTES = 8 * 2**20
WRITE_BYTES = 2**20  # gathered before it is written


class UploadUseless(UploadRefused):
    """All of it came, but it cannot be a lecture."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


Handler = Callable[[Request], Awaitable[Response]]


class UploadRoutes:
    """Serves uploads; `served` gives the parts on first use, so that starting the server opens nothing."""

    def __init__(self, served: Callable[[], Served]) -> None:
        self._served = served
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # each goes with the last request that uses it

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
        one = PREFIX + "/{upload_id}"
        return [
            Route(PREFIX, self._guarded(self.begin), methods=["POST"]),
            Route(one, self._guarded(self.show), methods=["GET"]),
            Route(one, self._guarded(self.append), methods=["PUT"]),
            Route(one, self._guarded(self.cancel), methods=["DELETE"]),
            Route(one + "/complete", self._guarded(self.complete), methods=["POST"]),
        ]

    async def begin(self, request: Request) -> Response:
        """Announce a file: `{"name", "size_bytes", "key"}`; answers where to go on."""
        name, size_bytes, key = _announced(await _small_body(request))
        return _state(await run_in_threadpool(self._served().uploads.begin, name, size_bytes, key))

    async def show(self, request: Request) -> Response:
        """Tell how far an upload has come."""
        return _state(await run_in_threadpool(self._served().uploads.get, request.path_params["upload_id"]))

    async def append(self, request: Request) -> Response:
        """Take a piece that begins at `?offset=`. Nothing but the last mebibyte is in memory; what was written before a break stays."""
        upload_id = request.path_params["upload_id"]
        try:
            offset = int(request.query_params["offset"])
        except (KeyError, ValueError) as error:
            raise UploadRefused("a piece needs ?offset=, a number of bytes") from error
        if int(request.headers.get("content-length") or 0) > MAX_PIECE_BYTES:
            raise UploadTooLarge(f"a piece has at most {MAX_PIECE_BYTES} bytes")
        async with self._lock(upload_id):
            return _state(await self._take(request, upload_id, offset))

    async def cancel(self, request: Request) -> Response:
        """Remove an upload."""
        async with self._lock(request.path_params["upload_id"]):
            await run_in_threadpool(self._served().uploads.cancel, request.path_params["upload_id"])
        return JSONResponse({})

    async def complete(self, request: Request) -> Response:
        """Make a lecture of a whole upload; answers its id and title, and whether it is new."""
        upload_id = request.path_params["upload_id"]
        async with self._lock(upload_id):
            answer = await run_in_threadpool(self._ingest, upload_id)
        return JSONResponse(answer)

    def _ingest(self, upload_id: str) -> dict[str, str | bool]:
        served = self._served()
        upload = served.uploads.get(upload_id)
        path = served.uploads.finish(upload_id)
        try:
            added = served.qa.ingest(path, title_from(Path(upload.name)), move=True, file_name=upload.name)
        except DiskFull:
            raise
        except (RetrieverError, StorageError) as error:  # they name the file as it is called here
            raise UploadUseless(str(error).replace(str(path), upload.name).replace(path.name, upload.name)) from error
        finally:
            path.unlink(missing_ok=True)  # refused, or known already
        return {"lecture_id": str(added.lecture.id), "title": added.lecture.title, "new": added.new}

    async def _take(self, request: Request, upload_id: str, offset: int) -> Upload:
        uploads = self._served().uploads
        upload = await run_in_threadpool(uploads.append, upload_id, offset, b"")  # refuses before a byte is read
        gathered = bytearray()
        try:
            async for block in request.stream():
                gathered += block
                if len(gathered) >= WRITE_BYTES:
                    upload = await run_in_threadpool(uploads.append, upload_id, upload.received_bytes, bytes(gathered))
                    gathered.clear()
                if upload.received_bytes + len(gathered) - offset > MAX_PIECE_BYTES:
                    raise UploadTooLarge(f"a piece has at most {MAX_PIECE_BYTES} bytes")
        except ClientDisconnect:
            pass  # the line broke; what came is kept, the browser asks where to go on
        return await run_in_threadpool(uploads.append, upload_id, upload.received_bytes, bytes(gathered))

    def _lock(self, upload_id: str) -> asyncio.Lock:
        return self._locks.setdefault(upload_id, asyncio.Lock())

    def _guarded(self, handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request) -> Response:
            shown = request.headers.get(TOKEN_HEADER, "")
            token = (await run_in_threadpool(self._served)).token
            if not hmac.compare_digest(shown.encode(), token.encode()):
                return _refusal("this page is older than the server: reload it, then go on", HTTPStatus.FORBIDDEN)
            try:
                return await handler(request)
            except UploadRefused as error:
                return _refusal(str(error), error.status)
            except DiskFull as error:
                return _refusal(str(error), HTTPStatus.INSUFFICIENT_STORAGE)
            except (AppError, RetrieverError, StorageError) as error:
                return _refusal(str(error), HTTPStatus.UNPROCESSABLE_ENTITY)

        return guarded


async def _small_body(request: Request) -> bytes:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > 4096:
            raise UploadTooLarge("an announcement has at most 4096 bytes")
    return bytes(body)


def _announced(body: bytes) -> tuple[str, int, str]:
    try:
        note = json.loads(body)
        name, size_bytes, key = note["name"], note["size_bytes"], note["key"]
    except (ValueError, KeyError, TypeError) as error:
        raise UploadRefused("an upload begins with name, size_bytes and key as JSON") from error
    if not (isinstance(name, str) and type(size_bytes) is int and isinstance(key, str)):
        raise UploadRefused("an upload's name and key are text, its size_bytes a whole number")
    return name, size_bytes, key


def _state(upload: Upload) -> Response:
    return JSONResponse({"id": upload.id, "name": upload.name, "size_bytes": upload.size_bytes, "offset": upload.received_bytes})


def _refusal(message: str, status: HTTPStatus) -> Response:
    return JSONResponse({"message": message}, status)
