import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from seqlab.report.figures import COLOURS
from seqlab.report.maps import by_rank, project, spectrum, word_map

WORDS = ['кот', 'пёс', 'dog', 'cat', 'one', 'two', 'three', 'four']
GROUPS = ['animals'] * 4 + ['numbers'] * 4
VECTORS = np.random.default_rng(0).normal(size=(8, 5)) + 6 * np.repeat(
  np.eye(5)[:2], 4, 0
)


def has(path, colour):
  """Returns whether some pixel has that colour."""
  rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
  pixels = np.asarray(Image.open(path).convert('RGB')).astype(int)
  return (abs(pixels - rgb).max(axis=-1) < 3).any()


def test_pca_finds_the_plane_that_unit_vectors_lie_in():
  angle = np.linspace(0, 2, 9)
  flat = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # [N, 2]
  turned = flat @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 2)))[0].T
  points, shares = project(turned * np.arange(1, 10)[:, None])  # lengths do not matter
  assert shares.sum() == pytest.approx(1)
  assert shares[0] > shares[1] > 0
  between = [np.linalg.norm(x[:, None] - x, axis=-1) for x in (points, flat)]
  np.testing.assert_allclose(*between, atol=1e-9)


def test_pca_does_not_depend_on_signs_and_accepts_a_zero_vector():
  points, _ = project(np.concatenate([VECTORS, np.zeros((1, 5))]))
  assert np.isfinite(points).all()
  flipped = VECTORS.copy()
  flipped[:, 2] *= -1
  np.testing.assert_allclose(*(np.abs(project(x)[0]) for x in (VECTORS, flipped)))


def test_tsne_keeps_groups_apart_and_depends_on_the_seed_alone():
  points, shares = project(VECTORS, 'tsne', seed=1)
  assert shares is None
  distance = np.linalg.norm(points[:, None] - points, axis=-1)
  assert (np.argsort(distance, axis=1)[:, 1] // 4 == np.arange(8) // 4).mean() > 0.7
  np.testing.assert_array_equal(points, project(VECTORS, 'tsne', seed=1)[0])


def test_a_map_has_a_colour_for_each_group_and_each_word_once(tmp_path):
  png, svg = word_map(tmp_path / 'new' / 'map', WORDS, VECTORS, groups=GROUPS)
  assert has(png, COLOURS[0])
  assert has(png, COLOURS[1])
  assert not has(png, COLOURS[2])
  text = svg.read_text('utf-8')
  for word in WORDS:
    assert text.count(f'<!-- {word} -->') == 1
  assert 'of the variance' in text


def test_names_do_not_cover_each_other(tmp_path):
  crowd = np.random.default_rng(0).normal(size=(6, 3))
  crowd = np.concatenate([crowd, crowd[:1] + 1e-3])  # two words at one place
  svg = word_map(tmp_path / 'a', list('abcdefg'), crowd)[1].read_text('utf-8')
  places = [
    svg.split(f'<!-- {name} -->')[1].split('translate(')[1].split(')')[0]
    for name in 'ag'
  ]
  one, other = (np.array(place.split(), float) for place in places)
  assert np.abs(one - other).max() > 5


def test_links_are_drawn(tmp_path):
  links = [('кот', 'cat'), ('пёс', 'dog')]
  png, _ = word_map(tmp_path / 'a', WORDS, VECTORS, method='tsne', links=links)
  assert has(png, '#bbbbbb')


def test_a_map_has_the_same_bytes_each_time(tmp_path):
  files = [word_map(tmp_path / n, WORDS, VECTORS, groups=GROUPS) for n in 'ab']
  for one, other in zip(*files, strict=True):
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(words=WORDS[1:]), '7 words have 8 vectors and 8 groups'),
    (dict(groups=['x']), '8 words have 8 vectors and 1 groups'),
    (dict(links=[('cat', 'cow')]), r"not on the map: \['cow'\]"),
    (dict(method='lda'), "method is 'lda'; it may be pca, tsne, umap"),
    (
      dict(words=['a'], vectors=VECTORS[:1], groups=None),
      '1 vectors are too few for a map',
    ),
  ],
)
def test_invalid_maps_are_refused(tmp_path, change, message):
  given = {'words': WORDS, 'vectors': VECTORS, 'groups': GROUPS, **change}
  with pytest.raises(ValueError, match=message):
    word_map(tmp_path / 'a', **given)


@pytest.mark.parametrize(
  ('method', 'module', 'name'),
  [('tsne', 'sklearn.manifold', 'scikit-learn'), ('umap', 'umap', 'umap-learn')],
)
def test_a_missing_library_is_named(monkeypatch, method, module, name):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(RuntimeError, match=f"pip install '{name}.*or use method='pca'"):
    project(VECTORS, method)


def test_umap_makes_a_map_where_it_is_installed():
  pytest.importorskip('umap', reason='umap-learn is not installed')
  assert project(VECTORS, 'umap')[0].shape == (8, 2)


def test_a_spectrum_is_drawn_for_each_label(tmp_path):
  values = {'PPMI': [10 / np.arange(1, 40)], 'PMI': [5 / np.arange(1, 30)]}
  png, svg = spectrum(tmp_path / 'a', values)
  assert has(png, COLOURS[0])
  assert has(png, COLOURS[1])
  assert '<!-- singular value -->' in svg.read_text('utf-8')
  with pytest.raises(ValueError, match="'x' increase, or are not positive"):
    spectrum(tmp_path / 'b', {'x': [np.array([2.0, 3.0])]})


def test_values_by_rank_are_points_and_medians(tmp_path):
  rank = np.unique(np.geomspace(1, 5_000, 200).astype(int))
  series = {name: (rank, np.log(rank) * k) for k, name in enumerate(('a', 'b'), 1)}
  png, svg = by_rank(tmp_path / 'a', series)
  assert has(png, COLOURS[0])
  assert has(png, COLOURS[1])
  assert '<!-- rank of frequency -->' in svg.read_text('utf-8')


def test_medians_are_those_of_bins_with_words():
  from seqlab.report.maps import _medians

  rank = np.array([1, 2, 3, 1000])
  middle, median = _medians(rank, np.array([5.0, 1.0, 3.0, 7.0]), bins=2)
  np.testing.assert_allclose(middle, [6 ** (1 / 3), 1000])
  assert median.tolist() == [3, 7]


def test_maps_need_no_jax():
  code = 'import sys, seqlab.report.maps; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
