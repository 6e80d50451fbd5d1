"""Secrets: passwords and tokens, which no message, file or command line may show."""

import json
import os
import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

HIDDEN = '***'
_SHORT = 4  # characters; a shorter secret is replaced only where it is a whole word
_NAME = re.compile(r'key|token|secret|passw|pwd|credential|auth(?!or)', re.IGNORECASE)
_URL = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://(\S*)')
_PARAMETER = re.compile(r'([?&]([\w.-]+)=)[^&\s\'")]+')  # of a URL without its scheme
# The parts of a URL in which the beginning and the end of a password are unambiguous.
_BODY = re.compile(
  r'((?P<user>[^:/?#@]*)(?P<password>:[^/?#@]*)?@)?'
  r'(?P<host>([\w.%-]*|\[[\da-fA-F:.%]*\])(:(\d*|PORT))?)'  # PORT is in examples
  r'(?P<path>/[^?#@]*)?'
  r'(\?(?P<query>[^?]*))?'
)
# Parameters of a URL's query that hold no secret.
_HARMLESS = {
  *('host', 'hostaddr', 'port', 'dbname', 'user', 'sslmode', 'connect_timeout'),
  *('application_name', 'client_encoding', 'charset', 'timeout', 'mode', 'uri'),
}
# Parameters that do. An unknown name may be the rest of a secret that contains an &.
_SECRET = {
  *('password', 'passwd', 'pwd', 'sslpassword', 'token', 'access_token', 'key'),
  *('api_key', 'apikey', 'secret', 'client_secret', 'signature', 'sig', 'auth'),
  *('x-amz-signature', 'x-amz-credential', 'x-amz-security-token', 'x-goog-signature'),
}
_known: set[str] = set()


def is_secret_name(name: str) -> bool:
  """Returns whether a variable or a parameter of this name holds a secret."""
  return bool(_NAME.search(name))


def is_harmless(parameter: str) -> bool:
  """Returns whether a parameter of a URL is known to hold no secret."""
  return parameter.lower() in _HARMLESS


def shown_parameter(name: str, value: str) -> tuple[str, str]:
  """Returns the name and the value of a URL's parameter, with secrets hidden."""
  if is_harmless(name):
    return name, value
  return name if name.lower() in _SECRET else HIDDEN, HIDDEN


def parameter_secrets(name: str, value: str) -> list[str]:
  """Returns the texts that `shown_parameter` hides."""
  pairs = zip((name, value), shown_parameter(name, value), strict=True)
  return [text for text, shown in pairs if text and text != shown]


def keep_secret(*secrets: str | None) -> None:
  """Makes `scrub` hide these secrets from now on, in any quoting."""
  for secret in filter(None, secrets):
    _known.update(
      spelling
      for plain in (secret, unquote(secret), unquote_plus(secret))
      for spelling in (
        *(plain, quote(plain), quote(plain, safe=''), quote_plus(plain)),
        *(repr(plain)[1:-1], json.dumps(plain)[1:-1]),
        *(json.dumps(plain, ensure_ascii=False)[1:-1], plain.replace("'", "'\"'\"'")),
      )
      if spelling
    )


def scrub(text: str) -> str:
  """Returns a text with all secrets hidden.

  Secrets are the arguments of `keep_secret`, the passwords of proxies in environment
  variables, and passwords and tokens in URLs.
  """
  _keep_proxies()
  for secret in sorted(_known, key=len, reverse=True):
    pattern = re.escape(secret)
    if len(secret) < _SHORT:
      pattern = rf'(?<!\w){pattern}(?!\w)'
    text = re.sub(pattern, HIDDEN, text)
  return hide_urls(text)


def _keep_proxies() -> None:
  for name, url in os.environ.items():
    if name.lower().endswith('_proxy') and '@' in url:
      before = url.rpartition('@')[0].rpartition('://')[2]
      password = before.partition(':')[2] or before
      # If a password contains / or #, messages may show a part of it as the host.
      keep_secret(password, *re.split('[/?#@]', password))


def hide_urls(text: str) -> str:
  """Returns a text with passwords and all but harmless parameters of URLs hidden."""
  text = _URL.sub(lambda match: _hide_body(match[1], match[2]), text)
  return _PARAMETER.sub(
    lambda match: match[0] if not is_secret_name(match[2]) else match[1] + HIDDEN, text
  )


def hide_url(url: str) -> str:
  """Returns a URL with secrets hidden; of an ambiguous URL only the scheme is shown."""
  match = _URL.match(url)
  if not match:
    return url if re.fullmatch(r'[\w./-]*', url) else HIDDEN
  if match.end() < len(url):  # white space, after which a secret may continue
    return f'{match[1]}://{HIDDEN}'
  return _hide_body(match[1], match[2])


def url_secrets(url: str) -> list[str]:
  """Returns the passwords and tokens in a URL."""
  scheme, _, body = url.partition('://')
  match = _BODY.fullmatch(body.partition('#')[0])
  if not match:
    return []
  secrets = [(match['password'] or '')[1:]]
  if scheme in ('http', 'https') and not match['password']:
    secrets.append(match['user'] or '')
  pairs = parse_qsl(match['query'] or '', keep_blank_values=True)
  secrets += [secret for pair in pairs for secret in parameter_secrets(*pair)]
  return [secret for secret in secrets if secret]


def _hide_body(scheme: str, body: str) -> str:
  """Hides the secrets in the part after `scheme://`."""
  # Punctuation after a URL in a sentence.
  end = re.search(r'[\'"`)\]},.;:!]*$', body).start()
  if end and not _BODY.fullmatch(body):
    body, rest = body[:end], body[end:]
  else:
    rest = ''
  match = _BODY.fullmatch(body)
  if not match:
    plain = not re.search(r'[@?#&=;]|:(?!\d*([/,]|$))', body)
    return f'{scheme}://{body if plain else HIDDEN}{rest if plain else ""}'
  shown = match['host'] + (match['path'] or '')
  user, password = match['user'], match['password']
  if user is not None:
    if password is not None:
      user = f'{user}:{HIDDEN}'
    elif scheme in ('http', 'https'):  # the user may be a token
      user = HIDDEN
    shown = f'{user}@{shown}'
  if match['query'] is not None:
    parts = (part.partition('=') for part in match['query'].split('&'))
    shown += '?' + '&'.join(
      '='.join(shown_parameter(name, value)) for name, _, value in parts
    )
  return f'{scheme}://{shown}{rest}'
