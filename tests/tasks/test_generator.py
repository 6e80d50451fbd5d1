"""Generated text, and scores of lines, are what the model gives without a cache."""

from types import SimpleNamespace

from flax.core import FrozenDict
import jax
import numpy as np
import pytest

from seqlab import testing
from seqlab.decoding.beam import length_penalty
from seqlab.decoding.config import Beam, Greedy, Sampling
from seqlab.tasks.generator import Generator
from seqlab.tasks.scorer import LineScorer
from seqlab.types import BOS, EOS

LEARNED = FrozenDict(kind='learned', max_length=12)
PROMPTS = ['', 'abc', 'b\nda', 'abcdefghijklmnopqrst\nabcdefghij', 'tsr']


class Letters:
  """A vocabulary of the letters that follow the special ids."""

  def encode(self, lines):
    ids = [[ord(c) - ord('a') + 4 for c in line] for line in lines]
    flat = [i for row in ids for i in row]
    return np.array(flat, np.int32), np.cumsum([0, *map(len, ids)])

  def decode(self, sequences):
    rows = ([i for i in ids if i > EOS] for ids in sequences)
    return [''.join(chr(i - 4 + ord('a')) for i in row) for row in rows]


def task_of(kind='decoder', *, context=None, is_running=True, **options):
  model, variables = testing.make_model(kind, **options)
  vocabularies = SimpleNamespace(text=Letters())
  task = SimpleNamespace(
    model=model, vocabularies=vocabularies, context=context, is_running=is_running
  )
  return task, variables


def ids_of(text, is_running=True):
  """The token before a text, and its own."""
  lines = [Letters().encode([line])[0].tolist() for line in text.split('\n')]
  joined = [i for line in lines for i in [*line, EOS]][:-1]
  return [EOS if is_running else BOS, *joined]


def log_probabilities(task, variables, ids):
  """Returns log p of the token after the last of `ids`, without a cache: [V]."""
  text = np.array([[*ids[1:], EOS]], np.int32)
  previous = np.array(ids[:1], np.int32)
  # The last id is predicted, whatever stands there; one length, to compile it once.
  padded = np.pad(text, ((0, 0), (0, (task.context or 80) - text.shape[1])))
  logits = testing._apply(task.model)(variables, previous, padded, previous=previous)
  return jax.nn.log_softmax(logits[0, text.shape[1] - 1])


def naive(task, variables, prompt, length):
  """The most probable continuation, and its log-probability."""
  ids, total, C = ids_of(prompt, task.is_running), 0.0, task.context
  seen = list(ids)
  for _ in range(length):
    if C is not None and len(seen) > C:
      seen = seen[-(C // 2) :]
    logp = np.array(log_probabilities(task, variables, seen))
    choice = int(
      np.where(np.isin(np.arange(len(logp)), [0, 2]), -np.inf, logp).argmax()
    )
    total += logp[choice]
    ids.append(choice)
    seen.append(choice)
    if choice == EOS and not task.is_running:
      break
  lines, text = [[]], ids[1:]
  for i in text:
    if i == EOS and task.is_running:
      lines.append([])
    else:
      lines[-1].append(i)
  return '\n'.join(Letters().decode(lines)), total


@pytest.mark.parametrize(
  ('kind', 'options'),
  [
    ('decoder', dict(positions='rotary')),
    ('decoder', dict(positions=LEARNED, context=12)),
    ('recurrent_lm', dict(cell='gru')),
    ('decoder', dict(is_running=False, context=60)),
  ],
  ids=['running', 'context', 'recurrent', 'documents'],
)
def test_greedy_text_is_the_most_probable_one_without_a_cache(kind, options):
  task, variables = task_of(kind, **options)
  prompts = [p for p in PROMPTS if task.is_running or '\n' not in p]
  texts = Generator(task, variables, Greedy()).generate(prompts, length=20)
  for prompt, [generated] in zip(prompts, texts, strict=True):
    text, logp = naive(task, variables, prompt, 20)
    assert generated.text == text
    np.testing.assert_allclose(generated.log_probability, logp, rtol=1e-3)
    assert text.startswith(prompt)


def test_a_beam_has_the_scores_of_its_texts():
  task, variables = task_of(is_running=False, positions='rotary')
  beam = Beam(beam=4, alpha=0.6)
  [texts] = Generator(task, variables, beam).generate(['abc'], length=6, samples=4)
  assert len({x.text for x in texts}) == 4
  scores = [x.log_probability for x in texts]
  assert scores == sorted(scores, reverse=True)
  for text, score in texts:
    ids, logp = ids_of(text, is_running=False), 0.0
    ended = len(ids) < 4 + 6
    for n in range(4, len(ids) + ended):
      logp += log_probabilities(task, variables, ids[:n])[[*ids, EOS][n]]
    counted = len(ids) - 4 + 1  # without the prompt, and with the end
    np.testing.assert_allclose(score, logp / length_penalty(counted, 0.6), rtol=1e-3)
  greedy = Generator(task, variables, Greedy()).generate(['abc'], length=6)
  one = Generator(task, variables, Beam(beam=1)).generate(['abc'], length=6)
  assert one[0][0].text == greedy[0][0].text


def test_samples_depend_on_seed_and_number_only():
  task, variables = task_of(positions='rotary', context=24)
  sampling = Sampling(temperature=1.2, top_k=10, top_p=0.9, seed=3)
  generator = Generator(task, variables, sampling, rows=4)
  all_texts = generator.generate(PROMPTS, length=10, samples=2)
  assert all(len({x.text for x in texts}) == 2 for texts in all_texts)
  [alone] = generator.generate(PROMPTS[3:4], length=10, samples=2, first=3)
  assert [x.text for x in alone] == [x.text for x in all_texts[3]]
  other = Generator(task, variables, Sampling(seed=4)).generate([''], length=10)
  assert other[0][0].text != all_texts[0][0].text
  cold = Generator(task, variables, Sampling(temperature=1e-6))
  greedy = Generator(task, variables, Greedy())
  texts = [g.generate(PROMPTS, length=10)[1][0].text for g in (cold, greedy)]
  assert texts[0] == texts[1]


@pytest.mark.parametrize('context', [None, 32, 13])
def test_scores_are_those_of_every_token_and_of_the_line_end(context):
  learned = FrozenDict(kind='learned', max_length=context)
  positions = 'rotary' if context is None else learned
  task, variables = task_of(positions=positions, context=context)
  lines = ['', 'abc', 'abcdefghij' * 7]
  scorer = LineScorer(task, variables)
  scored = scorer.score(lines)
  assert not scorer.refused
  for line, scores in zip(lines, scored, strict=True):
    ids = [*ids_of(line), EOS]
    assert len(scores) == len(ids) - 1
    for n in {1, 3, len(ids) // 2, len(ids) - 1} & {*range(1, len(ids))}:
      # Windows of 32 begin every 16 tokens, those of 13 every 7, at the id before them.
      C, step = context or 99, {32: 16, 13: 7}.get(context, 1)
      start = max(0, -(-(n - C) // step) * step)
      seen = ids[start:n]
      expected = log_probabilities(task, variables, seen)[ids[n]]
      np.testing.assert_allclose(scores[n - 1], expected, rtol=1e-3)


def test_what_cannot_be_generated_is_refused():
  task, variables = task_of(context=8)
  with pytest.raises(ValueError, match='2 samples, and Greedy gives 1'):
    Generator(task, variables, Greedy()).generate([''], length=2, samples=2)
  with pytest.raises(ValueError, match='needs more than the 8 tokens'):
    Generator(task, variables, Beam(beam=2)).generate(['abc'], length=9)
  documents, _ = task_of(is_running=False)
  with pytest.raises(ValueError, match='several lines'):
    Generator(documents, variables, Greedy()).generate(['a\nb'], length=9)
