"""Random damage to a run's folder: an intact checkpoint is loaded, or a clear error."""

import contextlib
import json
import os
from pathlib import Path
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.metrics_file import cut, read_metrics
from seqlab.text.vocabulary import Vocabularies, train_vocabulary
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.folder import RunFolder, open_folder
from seqlab.train.writer import Writer

TRIALS = 2_000
CONFIG = {
  'task': 'tasks.translation:Translation',
  'seed': 0,
  'steps': 30,
  'hyper': {'peak': 0.1},
  'schedule': {'kind': 'constant'},
}
STEPS = (10, 20, 30)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The folder of a run with three checkpoints, as `train` leaves it."""
  path = tmp_path_factory.mktemp('fuzz') / 'run'
  folder = open_folder(path, CONFIG)
  words = train_vocabulary(['a b c d', 'b c d', 'c d'], kind='word', size=20)
  pieces = train_vocabulary(['ab cd ' * 9] * 20, kind='bpe', size=12)
  Vocabularies(words, pieces).save(folder.vocabulary)
  folder.write_config()
  checkpoints = Checkpoints(folder.checkpoints, keep_best='bleu', keep_latest=3)
  with contextlib.closing(Writer(folder)) as writer:
    for step in range(1, 31):
      writer.write(step, {'loss': 1 / step, 'learning_rate': 0.1})
      if step in STEPS:
        checkpoints.save(step, _parts(step), {'bleu': 50.0 - step})
  checkpoints.close()
  return path


def _parts(step):
  # Numbers that a flipped bit changes only slightly, and numbers that compress well.
  x = np.random.default_rng(step).normal(size=300).astype(np.float32)
  state = {'x': jnp.asarray(x), 'y': jnp.full((3, 5), step, jnp.int32)}
  return {'state': state, 'meta': {'best': step / 2, 'bad': step}}


def _abstract():
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)  # noqa: E731
  return {'state': jax.tree.map(shape, _parts(10)['state']), 'meta': None}


def _truncate(path, files, draw):
  del files
  os.truncate(path, draw.randrange(path.stat().st_size + 1))


def _flip(path, files, draw):
  del files
  content = bytearray(path.read_bytes())
  for _ in range(draw.choice((1, 1, 1, 3, 50)) if content else 0):
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
  path.write_bytes(content)


def _zero(path, files, draw):
  del files
  content = bytearray(path.read_bytes())
  start = draw.randrange(len(content) + 1)
  stop = draw.choice((len(content), min(len(content), start + draw.randrange(1, 600))))
  content[start:stop] = bytes(stop - start)
  path.write_bytes(content)


def _delete(path, files, draw):
  del files, draw
  path.unlink()


def _delete_folder(path, files, draw):
  del files, draw
  if not (path.parent / 'config.json').exists():  # a run's own folder is not damage
    shutil.rmtree(path.parent)


def _swap(path, files, draw):
  other = draw.choice(files)
  first, second = path.read_bytes(), other.read_bytes()
  path.write_bytes(second)
  other.write_bytes(first)


def _copy_over(path, files, draw):
  path.write_bytes(draw.choice(files).read_bytes())


def _extend(path, files, draw):
  with path.open('ab') as file:
    file.write(draw.choice((b'\0' * 999, b'{', draw.randbytes(99), path.read_bytes())))
  del files


def _insert(path, files, draw):
  del files
  content = path.read_bytes()
  at = draw.randrange(len(content) + 1)
  path.write_bytes(content[:at] + draw.randbytes(draw.randrange(1, 9)) + content[at:])


def _junk(path, files, draw):
  del files
  path.write_bytes(draw.choice((b'null', b'[]', b'{}', b'7', draw.randbytes(300))))


def _folder_instead(path, files, draw):
  del files, draw
  path.unlink()
  path.mkdir()


def _link_to_nothing(path, files, draw):
  del files
  path.unlink()
  path.symlink_to(draw.choice((path.name, 'nothing', '/dev/null')))


def _move_folder(path, files, draw):
  """Renames a checkpoint's folder, or one inside it, to another one."""
  folders = sorted({p.parent for p in files} | {p.parent.parent for p in files})
  other = draw.choice(folders)
  if path.parent not in (other, *other.parents) and other not in path.parent.parents:
    shutil.rmtree(other)
    path.parent.rename(other)


DAMAGES = (
  *(_truncate, _flip, _flip, _zero, _delete, _swap, _copy_over, _extend, _insert),
  *(_junk, _folder_instead, _link_to_nothing, _move_folder, _delete_folder),
)


def _files(folder: Path) -> list[Path]:
  return sorted(p for p in folder.rglob('*') if p.is_file() and not p.is_symlink())


def _equals(parts, step):
  expected = _parts(step)
  return parts['meta'] == expected['meta'] and all(
    np.asarray(a).tobytes() == np.asarray(b).tobytes()
    for a, b in zip(
      *map(jax.tree.leaves, (parts['state'], expected['state'])), strict=True
    )
  )


def _whole(folder, run):
  """Returns the steps whose checkpoints are unchanged, byte for byte."""
  content = lambda path: {  # noqa: E731
    p.relative_to(path): p.read_bytes() for p in _files(path)
  }
  return [
    step
    for step in STEPS
    if content(folder / f'checkpoints/{step}') == content(run / f'checkpoints/{step}')
  ]


def _check_reading(folder, abstract, messages, whole):
  """Reads as evaluation does: the mean over the newest intact checkpoint."""
  try:
    reader = Checkpoints(
      folder / 'checkpoints', keep_best='bleu', read_only=True, say=messages.append
    )
  except FileNotFoundError:
    return
  with contextlib.closing(reader):
    for by in ('last', 'best'):
      try:
        (step,), state = reader.average(1, abstract['state'], by=by)
      except (ValueError, OSError):
        assert not whole
        continue
      if whole:  # a change between two words of a seal does not change its meaning
        assert step >= max(whole) if by == 'last' else step <= min(whole)
      assert _equals({'state': state, 'meta': _parts(step)['meta']}, step)


def _check_resuming(folder, abstract, messages, whole, draw):
  """Resumes as training does: from the newest intact checkpoint; saves the next one."""
  checkpoints = Checkpoints(
    folder / 'checkpoints', keep_best='bleu', say=messages.append
  )
  with contextlib.closing(checkpoints):
    try:
      restored = checkpoints.restore(abstract)
    except (ValueError, OSError):
      assert not whole
      return 'refused'
    step = 0
    if restored:
      step, parts = restored
      assert _equals(parts, step)
    assert step >= max(whole, default=0)
    for later in STEPS:  # no checkpoint is lost without a message
      if later > step and (folder / 'checkpoints' / f'broken-{later}').exists():
        assert any(f'of step {later} cannot be read' in text for text in messages)
    if draw.random() < 0.1:
      checkpoints.save(step + 10, _parts(step + 10), {'bleu': 1.0}, wait=True)
      assert checkpoints.latest == step + 10
  return 'newest' if step == STEPS[-1] else 'earlier'


def _check_rest(folder, messages):
  """Checks the configuration, the vocabulary and the rows."""
  with contextlib.suppress(ValueError, OSError):
    opened = RunFolder.open(folder)
    opened.task_class()  # checks the keys
    assert set(opened.config) >= set(CONFIG)
    with contextlib.suppress(FileNotFoundError):
      both = Vocabularies.load(opened.vocabulary)
      if (opened.vocabulary / 'digests.json').is_file():  # absent in old runs
        assert both.source.decode([[4, 5, 6, 7]]) == ['c d b a']
  with contextlib.suppress(OSError):
    rows = read_metrics(folder / 'metrics.jsonl', messages.append)
    cut(folder / 'metrics.jsonl', 20, messages.append)
    kept = read_metrics(folder / 'metrics.jsonl', messages.append)
    assert [row for row in rows if row['step'] <= 20] == kept


# Orbax leaves objects of a failed load to the garbage collector.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.slow  # minutes
@pytest.mark.parametrize('part', range(8))
def test_damage_never_leads_to_a_wrong_state(run, tmp_path, part):
  abstract, outcomes = _abstract(), dict.fromkeys(('newest', 'earlier', 'refused'), 0)
  for trial in range(part, TRIALS, 8):
    draw, messages = random.Random(trial), []
    folder = tmp_path / 'run'
    shutil.copytree(run, folder)
    names = []
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
      files = _files(folder)
      inside = [p for p in files if 'checkpoints' in p.parts]
      path = draw.choice(inside if inside and draw.random() < 0.8 else files)
      damage = draw.choice(DAMAGES)
      names.append(f'{damage.__name__} {path.relative_to(folder)}')
      damage(path, files, draw)
    try:
      whole = _whole(folder, run)
      _check_rest(folder, messages)
      _check_reading(folder, abstract, messages, whole)
      outcomes[_check_resuming(folder, abstract, messages, whole, draw)] += 1
    except BaseException as error:
      error.add_note(f'trial {trial}: {json.dumps(names)}; said {messages}')
      raise
    shutil.rmtree(folder)
  assert min(outcomes.values()) > 0, outcomes  # each was met
