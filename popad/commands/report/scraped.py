"""One request of HTTP, as Prometheus makes it: octets of the request in, octets of the answer out.

http.server reads the request and makes the answer; here are the limits, as what it allows is 6 MB in any time.
"""

import io
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/metrics"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"
METHODS = "GET, HEAD"  # what every server has to know (RFC 9110, 9.1)
LARGEST = 8192  # octets of a request: Prometheus sends about 400
END = b"\r\n\r\n"
TO_ASK = 5.0  # seconds for the request
TO_TAKE = 10.0  # seconds for the answer: a scrape of Prometheus has 10 for all


class Unfinished(Exception):
    """The request is too large or not there in time; `status` says so to the client."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Answer(BaseHTTPRequestHandler):
    """What is said to a request. Its `exposition` makes the text of metrics, and may raise what `failures` names."""

    default_request_version = "HTTP/1.0"  # with a status line in any case

    def __init__(
        self, request: bytes, exposition: "Callable[[], str]", failures: tuple[type[Exception], ...] = ()
    ) -> None:
        # Not the base's, which is for a socket.
        self.rfile, self.written = io.BytesIO(request), io.BytesIO()
        self.wfile = self.written
        self.exposition = exposition
        self.failures = failures
        self.failure: Exception | None = None
        self.handle_one_request()

    @property
    def octets(self) -> bytes:
        """All of it."""
        return self.written.getvalue()

    def do_GET(self) -> None:
        """The metrics."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            text = self.exposition()
        except self.failures as failure:
            self.failure = failure
            self.say(HTTPStatus.SERVICE_UNAVAILABLE, f"{failure}\n")
        else:
            self.say(HTTPStatus.OK, text, OPENMETRICS)

    do_HEAD = do_GET

    def say(self, status: HTTPStatus, text: str, kind: str = PLAIN) -> None:
        """A whole answer."""
        content = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", METHODS)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A refusal in few words, which repeat nothing of the request."""
        status = HTTPStatus(code)
        if status == HTTPStatus.NOT_IMPLEMENTED:  # what the base says of each method that it does not find here
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.say(status, f"{status.value} {status.phrase}\n")

    def version_string(self) -> str:
        """The header Server."""
        return "popad"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the journal is what is counted."""


def serve(
    client: socket.socket, exposition: "Callable[[], str]", failures: tuple[type[Exception], ...]
) -> Exception | None:
    """Answer the request of a client. Returns why there are no metrics. A client that leaves is nobody's failure."""
    failure = None
    try:
        try:
            request = read(client, time.monotonic() + TO_ASK)
        except Unfinished as unfinished:
            octets = refusal(unfinished.status)
        else:
            answer = Answer(request, exposition, failures)
            octets, failure = answer.octets, answer.failure
        client.settimeout(TO_TAKE)
        client.sendall(octets)
        client.shutdown(socket.SHUT_WR)  # first, or a reset for what was not read would overtake the answer
    except OSError:
        pass
    return failure


def refusal(status: HTTPStatus) -> bytes:
    """An answer to what is no whole request."""
    return f"HTTP/1.0 {status.value} {status.phrase}\r\nConnection: close\r\n\r\n".encode()


def read(client: socket.socket, deadline: float) -> bytes:
    """The line and the header of a request. Raises Unfinished, OSError."""
    request = b""
    while END not in request:
        if len(request) >= LARGEST:
            raise Unfinished(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        try:
            some = receive(client, LARGEST - len(request), deadline)
        except TimeoutError:
            raise Unfinished(HTTPStatus.REQUEST_TIMEOUT) from None
        if not some:
            break
        request += some
    return request


def receive(client: socket.socket, most: int, deadline: float) -> bytes:
    """The next octets; none where there will be no more. Raises OSError: TimeoutError after the deadline."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    client.settimeout(left)
    return client.recv(most)
