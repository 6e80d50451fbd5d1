"""Pages: what is escaped, and that nothing is loaded."""

import json

from seqlab.pages.html import Component, Markup, element, facts, json_element, page

EVIL = '</script><script>alert("1")</script><!-- & \u2028 ]]>'


def test_texts_and_attributes_are_escaped():
  written = element('p', EVIL, element('b', 'x'), title='"<', class_='y', hidden=True)
  assert '<script>' not in written
  assert written.startswith('<p title="&quot;&lt;" class="y" hidden>&lt;/script&gt;')
  assert written.endswith('<b>x</b></p>')
  assert element('br') == '<br>'
  assert '<script>' not in facts({EVIL: EVIL})


def test_data_cannot_end_their_script(scripts_of):
  text = page('title', [json_element('data', {'text': EVIL})])
  assert scripts_of(text) == {'data': scripts_of(text)['data']}
  assert json.loads(scripts_of(text)['data']) == {'text': EVIL}
  assert '\u2028' not in text


def test_a_page_forbids_the_network_and_names_nothing_in_it():
  text = page('a < b', [Markup('<p>x</p>')], [Component.of('attention')])
  assert 'default-src &#x27;none&#x27;' in text
  assert '<title>a &lt; b</title>' in text
  for loading in ('http:', 'https:', ' src=', '@import', 'url(', 'href='):
    assert loading not in text


def test_a_component_is_included_once():
  component = Component('p {}', 'run();')
  assert page('x', [], [component, component]).count('run();') == 1
