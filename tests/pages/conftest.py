"""Pages as a parser and a browser read them: Chromium, driven over a pipe."""

import base64
import contextlib
import html.parser
import itertools
import json
import os
import shutil
import subprocess

import pytest

PROGRAM = shutil.which('chromium') or shutil.which('chromium-browser')
_KEYS = {'Tab': 9, 'ArrowRight': 39, 'ArrowLeft': 37, 'End': 35, 'Enter': 13}

# Texts whose colour is too near to that of what is behind them.
_CONTRAST = """(() => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, under) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]);
  const light = colour => {
    const [r, g, b] = colour.map(x => x / 255).map(
      x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => node === null ? [255, 255, 255]
    : over(parse(getComputedStyle(node).backgroundColor), behind(node.parentElement));
  const wrong = [];
  for (const node of document.querySelectorAll('main *')) {
    const own = [...node.childNodes].some(x => x.nodeType === 3 && x.data.trim());
    if (!own || !node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) wrong.push([node.tagName, node.textContent.slice(0, 20), ratio]);
  }
  return wrong;
})()"""


class _Scripts(html.parser.HTMLParser):
  """Collects the text of each script, by its id."""

  def __init__(self):
    super().__init__()
    self.scripts, self._open = {}, None

  def handle_starttag(self, tag, attrs):
    if tag == 'script':
      self._open = dict(attrs).get('id', len(self.scripts))
      self.scripts[self._open] = ''

  def handle_data(self, data):
    if self._open is not None:
      self.scripts[self._open] += data

  def handle_endtag(self, tag):
    if tag == 'script':
      self._open = None


@pytest.fixture
def scripts_of():
  """A function of a page: id -> content of its scripts, as a browser divides them."""

  def scripts_of(text):
    parser = _Scripts()
    parser.feed(text)
    return parser.scripts

  return scripts_of


@pytest.fixture
def chromium(tmp_path):
  """A page of a new browser; the test is skipped where none is installed."""
  if PROGRAM is None:
    pytest.skip('Chromium is not installed (apt-get install chromium)')
  with browser(tmp_path / 'profile') as page:
    yield page


class Page:
  """One page. `errors` has the messages of the console that are errors."""

  def __init__(self, send, receive):
    self._send, self._receive = send, receive
    self._numbers, self._session = itertools.count(1), None
    self.errors = []

  def call(self, method, **params):
    """Returns the result of a command of the protocol."""
    number = next(self._numbers)
    session = {} if self._session is None else {'sessionId': self._session}
    self._send({'id': number, 'method': method, 'params': params, **session})
    while True:
      message = self._receive()
      if message.get('id') == number:
        assert 'error' not in message, message
        return message['result']
      self._note(message)

  def _note(self, message):
    method, params = message.get('method'), message.get('params', {})
    if method == 'Runtime.exceptionThrown':
      self.errors.append(params['exceptionDetails'])
    if method == 'Runtime.consoleAPICalled' and params['type'] == 'error':
      self.errors.append(params['args'])
    if method == 'Log.entryAdded' and params['entry']['level'] == 'error':
      self.errors.append(params['entry'])

  def open(self, path, *, width=1000, height=800, dark=False):
    """Opens a file in a window of this size, in light or in dark colours."""
    if self._session is None:
      target = self.call('Target.createTarget', url='about:blank')['targetId']
      attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
      self._session = attached['sessionId']
      for domain in ('Runtime', 'Log', 'Page'):
        self.call(f'{domain}.enable')
    size = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    self.call('Emulation.setDeviceMetricsOverride', **size)
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self.call('Emulation.setEmulatedMedia', features=[scheme])
    self.call('Page.navigate', url=f'file://{path}')
    while self.run('document.readyState + location.protocol') != 'completefile:':
      pass

  def run(self, script):
    """Returns the value of an expression."""
    options = dict(expression=script, returnByValue=True, awaitPromise=True)
    result = self.call('Runtime.evaluate', **options)
    assert 'exceptionDetails' not in result, result
    return result['result'].get('value')

  def press(self, key):
    """Presses a key."""
    code = dict(key=key, code=key, windowsVirtualKeyCode=_KEYS[key])
    text = {'text': '\r'} if key == 'Enter' else {}  # without it no button is pressed
    self.call('Input.dispatchKeyEvent', type='keyDown', **code, **text)
    self.call('Input.dispatchKeyEvent', type='keyUp', **code)

  def hover(self, selector):
    """Moves the mouse over the first element that a selector finds."""
    box = self.run(f"""(() => {{
      const node = document.querySelector({json.dumps(selector)});
      node.scrollIntoView({{block: 'center'}});
      const box = node.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    }})()""")
    for x, y in ((0, 0), box):
      self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

  def faint_texts(self):
    """Returns texts whose contrast with what is behind them is below 4.5 : 1."""
    return self.run(_CONTRAST)

  def picture(self, path):
    """Writes a picture of the whole page."""
    result = self.call('Page.captureScreenshot', captureBeyondViewport=True)
    with open(path, 'wb') as file:
      file.write(base64.b64decode(result['data']))


@contextlib.contextmanager
def browser(profile):
  """Yields a page of a new browser, whose files are in the folder `profile`."""
  to_read, to_write = os.pipe(), os.pipe()
  command = f'exec "$0" "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
  options = [
    *('--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe'),
    *('--no-first-run', '--disable-dev-shm-usage', f'--user-data-dir={profile}'),
  ]
  process = subprocess.Popen(
    ['bash', '-c', command, PROGRAM, *options],
    pass_fds=(to_read[0], to_write[1]),
    stderr=subprocess.DEVNULL,
  )
  os.close(to_read[0])
  os.close(to_write[1])
  sink, source = os.fdopen(to_read[1], 'wb', 0), os.fdopen(to_write[0], 'rb')

  def send(message):
    sink.write(json.dumps(message).encode() + b'\0')

  buffer = bytearray()

  def receive():
    while b'\0' not in buffer:
      block = source.read1(2**20)
      assert block, 'the browser has ended'
      buffer.extend(block)
    message, _, rest = bytes(buffer).partition(b'\0')
    buffer[:] = rest
    return json.loads(message)

  try:
    yield Page(send, receive)
  finally:
    sink.close()
    source.close()
    process.terminate()
    process.wait(timeout=20)
