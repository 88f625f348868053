"""A headless Chromium as tests look at pages with: one process for all of them, driven over a pipe
(Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio")
# Chromium reads commands from 3 and answers on 4
START = """import os, sys
from fcntl import F_DUPFD, fcntl
read, write, *words = sys.argv[1:]
read, write = (fcntl(int(end), F_DUPFD, 10) for end in (read, write))
os.dup2(read, 3), os.dup2(write, 4)
os.execv(words[0], words)"""
PHONE, DESKTOP = 390, 1280  # CSS pixels
MEASURE = """(() => ({
    text: document.body.innerText,
    width: document.documentElement.scrollWidth,
    plots: [...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
        id: plot.id,
        traces: plot.data.length,
        drawn: plot.querySelectorAll('.trace, .hm, .points, .cbfill').length,
        width: plot.getBoundingClientRect().width,
    })),
    elements: document.querySelectorAll('.js-plotly-plot').length,
    expected: document.querySelectorAll('[id^=picture-]').length,
}))()"""


class Seen(NamedTuple):
    """A page as a browser shows it. complaints: console errors and exceptions; requests: addresses that it asked for
    beside its own; width: CSS pixels that its content needs; plots: what was drawn of each.
    """

    text: str
    width: int
    plots: list[dict[str, Any]]
    expected: int
    complaints: list[str]
    requests: list[str]


def find_browser() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab of a running Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self.numbers, self.waiting, self.events = count(1), b"", []  # type: ignore[var-annotated]
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def look(self, page: Path | str, width: int, picture: Path | None = None) -> Seen:
        """Open a page in a window of this width and wait until it is drawn. page: a file, or an address. picture: PNG
        file of what it looks like.
        """
        self.events.clear()
        address = page if isinstance(page, str) else page.resolve().as_uri()
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width <= PHONE}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        two_frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        self.evaluate(two_frames)
        found = self.evaluate(MEASURE)
        if picture:
            self.photograph(picture)
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        others = [url for url in asked if url != address and not url.startswith(("data:", "blob:"))]
        drawn = (found["text"], found["width"], found["plots"], found["expected"])
        return Seen(*drawn, [text for e in self.events if (text := _complaint(e))], others)

    def photograph(self, picture: Path) -> None:
        """What the page looks like now, as a PNG file."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        picture.write_bytes(base64.b64decode(shot["data"]))

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events on the way are kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.commands.write(
            json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0"
        )
        self.commands.flush()
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        """The next message: an answer or an event."""
        while b"\0" not in self.waiting:
            piece = self.answers.read1(1 << 20)  # type: ignore[attr-defined]
            assert piece, "the browser ended"
            self.waiting += piece
        message, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser_of(path: str, folder: Path) -> Iterator[Browser]:
    """A running browser. folder: for its profile and what it says."""
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()
    words = [path, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe", "about:blank"]
    start = [sys.executable, "-c", START, str(to_read), str(to_write), *words]
    with open(folder / "browser.log", "w") as log:
        process = subprocess.Popen(start, pass_fds=(to_read, to_write), stdout=log, stderr=log)
    os.close(to_read)
    os.close(to_write)
    browser = Browser(commands, answers)
    try:
        yield browser
    finally:
        browser.session = None
        browser.call("Browser.close")
        process.wait(20)


def _complaint(event: dict[str, Any]) -> str:
    """What an event complains of; "" for others."""
    parameters = event.get("params", {})
    if event["method"] == "Runtime.exceptionThrown":
        return str(parameters["exceptionDetails"])
    if event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
        return str(parameters["args"])
    if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
        return parameters["entry"]["text"]
    return ""
