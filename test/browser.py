"""A real browser without a screen, for tests of what is served to one."""

import base64
import json
import os
import shutil
import subprocess
import tempfile

import cv2
import numpy as np
import pytest

_PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome')
# Software rendering of WebGL, as a machine for tests has no GPU.
_OPTIONS = (
    '--headless=new',
    '--no-sandbox',
    '--use-gl=angle',
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    '--window-size=1000,700',
    '--remote-debugging-pipe',
)


def program() -> str:
    """Chromium or Chrome; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        pytest.skip(f'no browser: {", ".join(_PROGRAMS)}')
    return found


class Browser:
    """One page, driven by the DevTools protocol through pipes."""

    def __init__(self, url: str) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command_read, self._write = os.pipe()
        self._read, answer_write = os.pipe()

        def lay_pipes() -> None:
            # The browser reads commands from descriptor 3 and answers on 4.
            commands, answers = os.dup(command_read), os.dup(answer_write)
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        self._process = subprocess.Popen(
            [program(), *_OPTIONS, f'--user-data-dir={self._profile.name}', 'about:blank'],
            preexec_fn=lay_pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read), os.close(answer_write)
        self._buffer, self._number, self._session = b'', 0, None
        page = self._call('Target.createTarget', url=url)['targetId']
        attached = self._call('Target.attachToTarget', targetId=page, flatten=True)
        self._session = attached['sessionId']

    def __enter__(self) -> 'Browser':
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write), os.close(self._read)
        self._process.kill()
        self._process.wait()
        self._profile.cleanup()

    def screenshot(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of what the page shows."""
        data = base64.b64decode(self._call('Page.captureScreenshot')['data'])
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    def _call(self, method: str, **parameters: object) -> dict:
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            while b'\0' not in self._buffer:
                received = os.read(self._read, 1 << 20)
                if not received:
                    raise RuntimeError('the browser ended')
                self._buffer += received
            text, _, self._buffer = self._buffer.partition(b'\0')
            answer = json.loads(text)
            if answer.get('id') == self._number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']
