r"""Formulas as SVG, so that a page needs neither scripts nor fonts nor a network.

MathML would be shorter, but browsers draw it with a font for mathematics of the system,
which many do not have, and some load no font of a page that is opened as a file.
"""

import functools
import html
import re

import ziamath

ziamath.config.svg2 = False  # paths, not symbols whose ids would clash within a page
_SIZE = 18  # units per em
_FORMULA = re.compile(
  r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL
)


def draw_formulas(page: str) -> str:
  """Returns HTML in which the formulas of arithmatex are drawn, with TeX as their text."""
  return _FORMULA.sub(lambda m: _drawn(html.unescape(m[2]).strip(), m[1]), page)


@functools.cache
def _drawn(tex: str, tag: str) -> str:
  formula = ziamath.Latex(tex, size=_SIZE, inline=tag == 'span', color='currentColor')
  svg = formula.svg()
  box = re.search(r'viewBox="(.*?)"', svg)[1]
  _, top, width, height = (float(x) / _SIZE for x in box.split())  # in em
  style = f'width:{width:.3f}em;height:{height:.3f}em'
  if tag == 'span':
    style += f';vertical-align:{-(top + height):.3f}em'
  label = html.escape(tex)
  head = f'<svg role="img" aria-label="{label}" style="{style}" viewBox="{box}"'
  body = svg[svg.index('>') :]
  return f'<{tag} class="formula">{head}{body}</{tag}>'
