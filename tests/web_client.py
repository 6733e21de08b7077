"""The page without a browser: asks the server as it does, over the network, with the standard library."""

import http.client
import json
import secrets
import time
from urllib.parse import urlsplit


QUESTION = {"version": 1, "revision": 0, "strokes": [], "outside": "painted", "use_reference": True, "saturation": 1.0}


class WebClient:
    """
    One visitor.

    Args:
        address (`str`): Of the page.
        timeout (`float`): Seconds without a byte, after which the server counts as one that hangs.
    """

    def __init__(self, address: str, timeout: float = 120):
        self.address, self.timeout = urlsplit(address), timeout
        self.session = secrets.token_hex(6)
        self.serial = 0
        self.first_version: float | None = None  # when the last question had its first version: time.monotonic()
        _, body = self.request("GET", "/config")
        events = [(entry["id"], entry["targets"][0][1]) for entry in json.loads(body)["dependencies"]]
        self.questions = {event: number for number, event in events if event in ("paint", "restyle", "save", "halt")}

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple:
        """Returns the status and the body."""
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=self.timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def upload(self, data: bytes, suffix: str) -> tuple[int, str]:
        """Send a file under a name of its own. Returns the status, and the path that the server tells."""
        mark, name = secrets.token_hex(12), secrets.token_hex(12) + suffix
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        status, answer = self.request("POST", "/gradio_api/upload", body, headers)
        return status, json.loads(answer)[0] if status == 200 else answer.decode()

    def join(self, event: str, **more) -> int:
        """Ask, and do not wait for the answer. Returns the status: 200, or 503 if too many others do."""
        self.serial += 1
        told = {**QUESTION, "serial": self.serial, **more}
        question = {"data": [], "fn_index": self.questions[event], "session_hash": self.session, "event_data": told}
        headers = {"Content-Type": "application/json"}
        return self.request("POST", "/gradio_api/queue/join", json.dumps(question).encode(), headers)[0]

    def answer(self) -> dict | None:
        """Wait for the answer. Returns the last state; `None` if the server tells of an error of its own."""
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=self.timeout)
        try:
            connection.request("GET", f"/gradio_api/queue/data?session_hash={self.session}")
            state = self.first_version = None
            for line in connection.getresponse():
                if self.first_version is None and b'"seed"' in line:
                    self.first_version = time.monotonic()
                told = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: ") else {}
                if told.get("msg") == "process_completed" and told["success"]:
                    state = told["output"]["data"][0]
                if told.get("msg") == "close_stream":
                    break
            return state
        finally:
            connection.close()

    def ask(self, event: str, **more) -> tuple[int, dict | None]:
        """Ask and wait. Returns the status, and the last state."""
        status = self.join(event, **more)
        return status, self.answer() if status == 200 else None

    def fetch(self, url: str) -> bytes:
        """Get a file that a state tells of."""
        status, body = self.request("GET", f"/{url}")
        assert status == 200, (status, url)
        return body
