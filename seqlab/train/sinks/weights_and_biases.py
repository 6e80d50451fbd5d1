"""Weights & Biases (https://docs.wandb.ai), from the extra `track`."""

from collections.abc import Mapping, Sequence
import html
from pathlib import Path
from typing import Any, Literal
import uuid

import numpy as np

from seqlab.io import files
from seqlab.train.sinks.interface import Sink


class WeightsAndBiases(Sink):
  """Sends a run to Weights & Biases, or keeps it in `RUN/wandb` for `wandb sync`.

  A run that resumes continues the run of the same id. The steps that it repeats are
  sent again.
  """

  def __init__(
    self,
    folder: Path,
    *,
    project: str = 'seqlab',
    entity: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    mode: Literal['online', 'offline'] | None = None,
  ):
    """Connects to the server.

    Args:
      folder: folder of the run, whose name becomes the run's name.
      project: project of the run.
      entity: user or team; None for the default of the account.
      group: group of the run, such as a sweep.
      tags: tags of the run.
      mode: 'offline' writes to `folder`/wandb only; None leaves it to the variable
        WANDB_MODE, and to 'online' without it.

    Raises:
      RuntimeError: wandb is not installed.
    """
    try:
      import wandb  # imported here, because it is optional
    except ModuleNotFoundError as error:
      raise RuntimeError("install it with: pip install 'seqlab[track]'") from error

    self._wandb = wandb
    self._run = wandb.init(
      project=project,
      entity=entity,
      group=group,
      tags=tags,
      mode=mode,
      name=folder.name,
      id=_id(folder),
      resume='allow',
      dir=folder,
      reinit='create_new',  # a population has several runs in one process
      settings=wandb.Settings(console='off', silent=True),
    )
    # With wandb's own steps, the steps that a resumed run repeats would be refused.
    self._run.define_metric('step', hidden=True)
    self._run.define_metric('*', step_metric='step')

  def configuration(self, config: Mapping[str, Any]) -> None:
    """Sends the options of the experiment."""
    self._run.config.update(dict(config), allow_val_change=True)

  def metrics(self, step: int, row: Mapping[str, float]) -> None:
    """Sends the metrics of a step."""
    self._run.log({**row, 'step': step})

  def text(self, step: int, name: str, text: str) -> None:
    """Sends a text, with its line breaks."""
    page = self._wandb.Html(f'<pre>{html.escape(text)}</pre>', inject=False)
    self._run.log({name: page, 'step': step})

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Sends an image."""
    self._run.log({name: self._wandb.Image(image), 'step': step})

  def close(self) -> None:
    """Sends what remains, and marks the run as finished."""
    self._run.finish()


def _id(folder: Path) -> str:
  """Returns the id of the run, which its folder keeps."""
  file = folder / 'wandb' / 'seqlab-id'
  if not file.is_file():
    file.parent.mkdir(exist_ok=True)
    files.write_text(file, uuid.uuid4().hex[:16])
  return file.read_text('utf-8')
