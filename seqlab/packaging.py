"""Builds the package with the experiments inside; only `pyproject.toml` uses this."""

from pathlib import Path
import shutil

from setuptools.command.build_py import build_py

_SOURCE, _TARGET = Path('experiments'), Path('seqlab', 'experiments')


class BuildWithExperiments(build_py):
  """Copies `experiments/` to `seqlab/experiments/` in the package that is built.

  In a clone the folder stays beside the package, where people read and copy its files.
  setuptools cannot map a folder to package data where it also searches for packages.
  """

  def run(self) -> None:
    """Copies modules, package data and experiments."""
    super().run()
    if not getattr(self, 'editable_mode', False):
      # An earlier build, in the same folder, may have had other experiments.
      shutil.rmtree(Path(self.build_lib) / _TARGET, ignore_errors=True)
    for source, target in self._experiments().items():
      self.mkpath(str(Path(target).parent))
      self.copy_file(source, target)

  def get_source_files(self) -> list[str]:
    """Returns the files that a source distribution contains."""
    return [*super().get_source_files(), *map(str, sorted(_SOURCE.rglob('*.py')))]

  def get_outputs(self, include_bytecode: bool = True) -> list[str]:
    """Returns the files that are installed."""
    return [*super().get_outputs(include_bytecode), *self._experiments().values()]

  def get_output_mapping(self) -> dict[str, str]:
    """Returns installed file -> source."""
    mapping = {target: source for source, target in self._experiments().items()}
    return super().get_output_mapping() | mapping

  def _experiments(self) -> dict[str, str]:
    """Returns source -> target; empty where the package is not copied."""
    if getattr(self, 'editable_mode', False):
      return {}
    target = Path(self.build_lib) / _TARGET
    files = sorted(_SOURCE.rglob('*.py'))
    return {str(path): str(target / path.relative_to(_SOURCE)) for path in files}
