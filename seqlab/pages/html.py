"""Self-contained pages: HTML with its styles, scripts and data in one file.

A page loads nothing: a policy in it forbids the browser any access to a network. Text is
escaped, and data are JSON in which no character can end the element that holds them.
"""

from collections.abc import Iterable, Mapping, Sequence
import html
import importlib.resources
import json
from typing import Any, NamedTuple

# Whatever the page holds, the browser fetches nothing.
_POLICY = (
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
  'img-src data:'
)
# A script element ends at '</', and old scripts at line separators inside strings.
_IN_SCRIPT = {ord(c): f'\\u{ord(c):04x}' for c in '<>&\u2028\u2029'}
_VOID = ('br', 'hr', 'img', 'meta', 'input')


class Markup(str):
  """A text that is HTML already, so that `element` does not escape it."""

  __slots__ = ()


def element(tag: str, *children: str, **attributes: Any) -> Markup:
  """Returns an element of HTML.

  Args:
    tag: name of the element.
    *children: content; texts are escaped unless they are `Markup`.
    **attributes: attributes by name, without a trailing underscore, and with '-' for
      '_'; None leaves one out, True writes its name only.
  """
  names = {name.rstrip('_').replace('_', '-'): x for name, x in attributes.items()}
  written = ''.join(
    f' {name}' if x is True else f' {name}="{html.escape(str(x))}"'
    for name, x in names.items()
    if x is not None and x is not False
  )
  if tag in _VOID:
    return Markup(f'<{tag}{written}>')
  return Markup(f'<{tag}{written}>{joined(children)}</{tag}>')


def joined(children: Iterable[str]) -> Markup:
  """Returns elements and texts after one another; texts are escaped."""
  return Markup(
    ''.join(x if isinstance(x, Markup) else html.escape(str(x)) for x in children)
  )


def json_element(name: str, data: Any) -> Markup:
  """Returns data for a script, which finds them by the id `name`."""
  text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
  content = Markup(text.translate(_IN_SCRIPT))
  return element('script', content, type='application/json', id=name)


class Component(NamedTuple):
  """A part of a page that has its own style and script.

  Attributes:
    style: CSS.
    script: JavaScript, which runs when all elements are there.
  """

  style: str = ''
  script: str = ''

  @classmethod
  def of(cls, name: str) -> 'Component':
    """Returns `name.css` and `name.js` of this package."""
    return cls(_file(f'{name}.css'), _file(f'{name}.js'))


def page(title: str, body: Iterable[str], components: Iterable[Component] = ()) -> str:
  """Returns a whole page.

  Args:
    title: title of the page, which is its first heading too.
    body: elements after the heading.
    components: parts with styles and scripts, each once.
  """
  parts = [Component(_file('page.css')), *dict.fromkeys(components)]
  styles = [element('style', Markup(x.style)) for x in parts if x.style]
  scripts = [element('script', Markup(x.script)) for x in parts if x.script]
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element('meta', http_equiv='Content-Security-Policy', content=_POLICY),
    element('meta', name='viewport', content='width=device-width, initial-scale=1'),
    element('meta', name='color-scheme', content='light dark'),
    element('title', title),
    *styles,
  )
  main = element('main', element('h1', title), *body)
  whole = element('html', head, element('body', main, *scripts), lang='en')
  return f'<!DOCTYPE html>\n{whole}\n'


def facts(values: Mapping[str, str]) -> Markup:
  """Returns a list of names and values."""
  pairs = (
    element('div', element('dt', name), element('dd', value, dir='auto'))
    for name, value in values.items()
  )
  return element('dl', *pairs, class_='facts')


def table(
  head: Sequence[str], rows: Iterable[Sequence[str]], *, class_: str = ''
) -> Markup:
  """Returns a table that scrolls sideways where it is too wide.

  Args:
    head: names of the columns.
    rows: cells of each row.
    class_: a further class of the element around the table.
  """
  top = element('tr', *(element('th', name, scope='col') for name in head))
  body = [
    element('tr', *(element('td', cell, dir='auto') for cell in row)) for row in rows
  ]
  classes = ' '.join(filter(None, ('scroll', class_)))
  return element('div', element('table', top, *body), class_=classes)


def _file(name: str) -> str:
  return (importlib.resources.files('seqlab.pages') / name).read_text('utf-8')
