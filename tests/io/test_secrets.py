"""No message shows a password."""

import pytest

from seqlab.io import secrets
from seqlab.io.secrets import hide_url, hide_urls, keep_secret, scrub, url_secrets


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
  monkeypatch.setattr(secrets, '_known', set())


@pytest.mark.parametrize(
  ('url', 'shown'),
  [
    ('gs://mine/run', 'gs://mine/run'),
    ('https://host:8080/a/b?timeout=3', 'https://host:8080/a/b?timeout=3'),
    ('postgresql://me@host/db', 'postgresql://me@host/db'),
    ('postgresql://me:pw@host:5432/db', 'postgresql://me:***@host:5432/db'),
    ('postgresql://host/db?user=me&password=pw',
     'postgresql://host/db?user=me&password=***'),
    ('https://token@host/a', 'https://***@host/a'),
    ('s3://mine/run?X-Amz-Signature=abc', 's3://mine/run?X-Amz-Signature=***'),
    ('postgresql://me:a/b@host/db', 'postgresql://***'),
    ('postgresql://me:a@b@host/db', 'postgresql://***'),
    ('postgresql://me:a b@host/db', 'postgresql://***'),
    ('postgresql://me:pw', 'postgresql://***'),
    ('me:pw@host/db', '***'),
    ('searches.db', 'searches.db'),
    ('postgresql://USER@HOST:PORT/DATABASE', 'postgresql://USER@HOST:PORT/DATABASE'),
  ],
)  # fmt: skip
def test_a_url_is_shown_without_its_secrets(url, shown):
  assert hide_url(url) == shown


def test_urls_in_a_sentence_are_hidden():
  text = "('http://me:pw@proxy:80') refused, gs://mine/run too."
  assert hide_urls(text) == "('http://me:***@proxy:80') refused, gs://mine/run too."


@pytest.mark.parametrize('spelling', ['p@s/s', 'p%40s%2Fs', 'p%40s/s'])
def test_a_known_secret_is_hidden_however_it_is_quoted(spelling):
  keep_secret('p%40s%2Fs')
  assert scrub(f'failed for {spelling}') == 'failed for ***'


def test_a_short_secret_is_hidden_as_a_word():
  keep_secret('me')
  assert scrub('some "me" here') == 'some "***" here'


def test_the_secrets_of_a_url_are_found():
  url = 'https://me:pw@host/a?token=abc&timeout=3'
  assert url_secrets(url) == ['pw', 'abc']
  assert url_secrets('https://token@host/a') == ['token']
