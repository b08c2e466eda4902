"""Times steps of training and of a search, beside PyTorch on the same device.

  PYTHONPATH=. python tests/benchmarks/training_steps.py  # a GPU
  PYTHONPATH=. python tests/benchmarks/training_steps.py --torch  # PyTorch
  PYTHONPATH=. python tests/benchmarks/training_steps.py --cpu  # both, in turn

Each line is a JSON object: what was timed, the type that it computes in, the
images of a batch and steps of a dispatch; milliseconds of a step, the median of
several runs; images a second; TFLOP/s, which counts two for each multiply-add
of a pass through the network that is trained, and three passes for a gradient
by weights, two for one by images; seconds of compilation beside the others; and
the mebibytes that XLA's program takes beside its arguments.

Each program is compiled by a process of its own, all at the same time, since
one process takes minutes for each; then they run one after the other. What is
not compiled in time is said to have failed. PyTorch runs eagerly, channels
last, with cuDNN's search for the fastest convolution, in autocast where
bfloat16 is asked for. XLA and cuDNN compute float32 convolutions in TF32 on a
GPU that has it. On a CPU the cases are compiled one by one, a step of ours and
one of PyTorch run in turn in one process, also in PyTorch's default layout, and
`ratio` is the time of the faster one of these over ours.
"""

import concurrent.futures
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from rnascl_jax.config import resolve, settings
from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.models import fixed, student
from rnascl_jax.runtime import host_memory, parallel
from rnascl_jax.search import (
  arch_params,
  architecture,
  cost_tables,
  flops,
  spaces,
)
from rnascl_jax.training import (
  adversarial,
  loop,
  search_step,
  train_state,
  train_step,
)
from rnascl_jax.training.loader import DeviceData

_CPU = flags.DEFINE_bool('cpu', False, 'Cases that suit a CPU.')
_TINY = flags.DEFINE_bool('tiny', False, 'A rehearsal with small networks.')
_KEEP = flags.DEFINE_bool(
  'keep_memory', True, 'Whether freed memory is kept, as by commands.'
)
_TORCH = flags.DEFINE_bool('torch', False, 'PyTorch in the place of JAX.')
_ONLY = flags.DEFINE_string('only', '', 'Cases whose name has this in it.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Timed runs of each.')
_COMPILE_S = flags.DEFINE_float('compile_s', 240.0, 'Seconds for compiling.')
_CASE = flags.DEFINE_integer('case', -1, 'The one that this process times.')
# Of a case that is compiled: on a GPU, and on a CPU.
_TIMEOUT_S = (30, 600)

_SHAPE = (32, 32, 3)
# PyTorch's, by our names.
_LAYOUTS = {'default': 'contiguous_format', 'channels_last': 'channels_last'}
_BF16, _F32 = 'bfloat16', 'float32'
# Passes of a step forward, backward to images, and backward to weights.
_METHODS = {
  'standard': (settings.AdversarialTraining(), (1, 1, 1)),
  'pgd-10': (
    settings.AdversarialTraining('pgd', num_steps=10, step_size_255=2.0),
    (11, 11, 1),
  ),
  'fast': (settings.AdversarialTraining('fast'), (2, 2, 1)),
  'trades-10': (settings.AdversarialTraining('trades'), (13, 12, 2)),
}


class Case(NamedTuple):
  """What is timed: a network, its teacher, and how it is trained."""

  network: str
  method: str = 'standard'
  dtype: str = _F32
  batch: int = 128
  dispatch: int = 1
  teacher: str = ''
  search: bool = False

  @property
  def name(self) -> str:
    taught = f' by {self.teacher}' if self.teacher else ''
    what = 'search' if self.search else self.method
    return f'{self.network} {what}{taught}'


_WRN, _RES = 'wide_resnet34_10', 'resnet18'
_CASES = (
  Case(_WRN, 'standard', _BF16),
  Case(_WRN, 'pgd-10', _BF16),
  Case(_RES, 'fast', _BF16),
  Case(_RES, 'trades-10', _BF16),
  Case('s3', 'standard', _F32, 128, 10, _RES),
  Case('s3', 'trades-10', _F32, 128, 1, _RES),
  Case('s3', 'standard', _F32, 128, 10, _RES, search=True),
  Case(_WRN, 'standard', _F32),
  Case(_RES, 'fast', _F32),
  Case('s3', 'standard', _BF16, 128, 10, _RES),
  Case('s3', 'standard', _F32, 1024, 1, _RES),
  Case('s3', 'standard', _F32, 128, 1, _RES),
  Case('m', 'standard', _F32, 128, 1, _WRN, search=True),
)
_CPU_CASES = tuple(
  Case(network, method, batch=batch)
  for network, batch in (('s3', 128), (_RES, 32))
  for method in ('standard', 'pgd-10', 'trades-10')
) + (Case('s3', teacher='small_resnet', search=True),)
_TINY_CASES = (
  Case('small_resnet', 'fast', _BF16, 8),
  Case('s3', 'trades-10', _F32, 8, 2, 'small_resnet'),
  Case('s3', 'standard', _F32, 10, 2, 'small_resnet', search=True),
)


def _network(case: Case) -> Any:
  if case.network in fixed.NETWORKS:
    return _teacher(case.network, case.dtype, parallel.AXIS)
  space = spaces.CIFAR_SPACES[case.network]
  return student.Student(
    space if case.search else spaces.widest(space),
    10,
    axis_name=parallel.AXIS,
    dtype=jnp.bfloat16 if case.dtype == _BF16 else None,
  )


def _teacher(name: str, dtype: str, axis_name: str | None = None) -> Any:
  return fixed.NETWORKS[name](
    num_classes=10,
    dtype=jnp.bfloat16 if dtype == _BF16 else None,
    axis_name=axis_name,
  )


def _variables(net: Any) -> Any:
  images = jnp.zeros((1, *_SHAPE))
  init = jax.jit(lambda key: net.init(key, images, train=False))
  return init(jax.random.key(0))


def prepare(
  case: Case, devices: tuple[jax.Device, ...] | None = None
) -> dict[str, Any]:
  """Compiles the steps of a case, for one device by default."""
  devices = devices or jax.devices()[:1]
  net = _network(case)
  narrow = _F32 if _CPU.value else _BF16
  guide = _teacher(case.teacher, narrow) if case.teacher else None
  recipe = train_state.Recipe(
    net=net,
    optimizer=optax.chain(
      optax.add_decayed_weights(5e-4), optax.sgd(1e-3, momentum=0.9)
    ),
    adversarial=resolve.adversarial_method(_METHODS[case.method][0]),
    distillation=compare.Distillation(guide),
    augment=functools.partial(batches.augment, padding=4, flip=True),
  )
  tutors: Any = ()
  if guide and not case.search:
    layers = len(net.tap_names)
    choices = len(guide.tap_names)
    tutors = jax.nn.one_hot(jnp.arange(layers) % choices, choices)
  context = train_state.Context(
    seed=jnp.uint32(0),
    teacher=_variables(guide) if guide else (),
    tutors=tutors,
    kl_weight=jnp.float32(1),
    gamma=jnp.float32(1),
  )
  part = case.batch * 4 // 5 if case.search else case.batch
  state = train_state.start_from(recipe, _variables(net), _SHAPE, part)
  sizes: tuple[int, ...] = (part,)
  step = train_step.make_train_step(recipe)
  if case.search:
    space = spaces.CIFAR_SPACES[case.network]
    tables = flops.costs(space, _SHAPE, 10)
    search = search_step.Search(
      space=space,
      tables=tables,
      optimizer=optax.adam(0.01),
      steps_per_epoch=390,
      reference=cost_tables.uniform(tables),
      adversarial=adversarial.standard(),
    )
    arch = arch_params.init_arch_params(
      space, len(net.tap_names), len(guide.tap_names)
    )
    state = search_step.init_search_state(state, arch, search.optimizer)
    step = search_step.make_search_step(recipe, search)
    sizes = part, case.batch - part
  images = np.random.default_rng(0).integers(256, size=(2048, *_SHAPE))
  data = DeviceData(
    images.astype(np.uint8), np.arange(2048, dtype=np.int32) % 10
  )
  rows = tuple(
    parallel.share(_rows(case.dispatch, size), devices, axis=1)
    for size in sizes
  )
  held = [parallel.replicate(x, devices) for x in (state, context, data)]
  dispatch = loop.make_dispatch(step, devices)
  begin = time.perf_counter()
  compiled = dispatch.lower(*held, rows).compile()
  seconds = time.perf_counter() - begin
  memory = compiled.memory_analysis()
  return {
    'run': compiled,
    'held': held,
    'rows': rows,
    'compile_s': round(seconds, 1),
    'temporary_mib': round(memory.temp_size_in_bytes / 2**20) if memory else -1,
  }


def _rows(steps: int, size: int) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(2048, size=(steps, size)).astype(np.int32)


def _flop(case: Case) -> float:
  """Of a step, twice its multiply-adds."""
  net = _network(case)
  variables = jax.eval_shape(
    lambda: net.init(jax.random.key(0), jnp.zeros((1, *_SHAPE)), train=False)
  )
  image = jax.ShapeDtypeStruct((1, *_SHAPE), jnp.float32)
  macs = flops.trace_macs(
    lambda v, x: net.apply(v, x, train=False)[0], variables, image
  )
  return 2 * macs * case.batch * sum(_METHODS[case.method][1])


def _time(case: Case, prepared: dict[str, Any]) -> dict[str, Any]:
  state, context, data = prepared.pop('held')
  run, rows = prepared.pop('run'), prepared.pop('rows')

  def ours():
    nonlocal state
    state, sums = run(state, context, data, rows)
    jax.block_until_ready((state, sums))
    assert np.isfinite(np.asarray(sums['loss'])).all()

  steps = {'here': ours}
  if _CPU.value:
    steps |= {layout: _torch_step(case, layout) for layout in _LAYOUTS}
  times = _medians(steps)
  seconds = times.pop('here') / case.dispatch
  if times:
    prepared['pytorch_ms'] = {k: round(1e3 * v, 2) for k, v in times.items()}
    prepared['ratio'] = round(min(times.values()) / seconds, 2)
  return _row(case, seconds, **prepared)


def _medians(steps: dict[str, Any], warm: int = 1) -> dict[str, float]:
  """Median seconds of steps that run in turn."""
  times: dict[str, list[float]] = {name: [] for name in steps}
  for _ in range(_REPEATS.value + warm):
    for name, step in steps.items():
      begin = time.perf_counter()
      step()
      times[name].append(time.perf_counter() - begin)
  return {name: statistics.median(t[warm:]) for name, t in times.items()}


def _row(case: Case, seconds: float, **more: Any) -> dict[str, Any]:
  return {
    'step': case.name,
    'dtype': case.dtype,
    'batch': case.batch,
    'dispatch': case.dispatch,
    'ms': round(1e3 * seconds, 2),
    'images_s': round(case.batch / seconds),
    'tflops': round(_flop(case) / seconds / 1e12, 1),
    **more,
  }


def _torch_network(case: Case) -> Any:
  """The network of a case, written in PyTorch."""
  from rnascl_jax.interop import student as exported
  from tests import torch_fixed

  if case.network in fixed.NETWORKS:
    small = case.network == 'small_resnet'
    fields = {'features': (16, 32, 64)} if small else {}
    return torch_fixed.make(case.network, 10, **fields)
  space = spaces.widest(spaces.CIFAR_SPACES[case.network])
  widths = tuple(block.widest for block in space.blocks)
  widest = architecture.Architecture(space, widths, (), (), ())
  return exported.Student(architecture.to_dict(widest), num_classes=10)


def _torch_search(case: Case, layout: Any) -> Any:
  """A search step of PyTorch."""
  import torch

  from tests import torch_fixed, torch_search

  space = spaces.CIFAR_SPACES[case.network]
  module = _torch_network(Case(case.teacher)).to(memory_format=layout)
  names = _teacher(case.teacher, _F32).tap_names
  tapped = [torch_fixed.tapped_module(module, name) for name in names]
  tables = flops.costs(space, _SHAPE, 10)
  search = torch_search.Search(space, tables, module, tapped)
  search.net.to(memory_format=layout)
  part = case.batch * 4 // 5
  halves = [
    (
      torch.rand(count, 3, 32, 32).contiguous(memory_format=layout),
      torch.arange(count) % 10,
    )
    for count in (part, case.batch - part)
  ]
  return functools.partial(search.step, *halves)


def _torch_step(case: Case, layout_name: str = 'channels_last') -> Any:
  """A step of PyTorch: the same network, attack and update."""
  import torch
  from torch.nn import functional

  layout = getattr(torch, _LAYOUTS[layout_name])
  if case.search:
    return _torch_search(case, layout)
  cuda = torch.cuda.is_available()
  device = 'cuda' if cuda else 'cpu'
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = True
  torch.backends.cuda.matmul.allow_tf32 = True
  net = _torch_network(case).to(device, memory_format=layout)
  optimizer = torch.optim.SGD(
    net.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4
  )
  images = torch.rand(case.batch, 3, 32, 32, device=device)
  images = images.contiguous(memory_format=layout)
  labels = torch.arange(case.batch, device=device) % 10
  epsilon = 8 / 255
  cast = functools.partial(
    torch.autocast, device, torch.bfloat16, enabled=case.dtype == _BF16
  )

  def ascend(loss, x, size):
    with cast():
      value = loss(net(x))
    (gradient,) = torch.autograd.grad(value, x)
    x = x.detach() + size * gradient.sign()
    x = torch.minimum(torch.maximum(x, images - epsilon), images + epsilon)
    return x.clamp(0, 1).requires_grad_()

  def attack():
    loss = functools.partial(functional.cross_entropy, target=labels)
    size = 2 / 255
    steps = {'standard': 0, 'fast': 1}.get(case.method, 10)
    if case.method == 'fast':
      size = 10 / 255
    if case.method == 'trades-10':
      net.eval()
      with torch.no_grad(), cast():
        clean = torch.softmax(net(images).float(), 1)

      def loss(logits):
        log = torch.log_softmax(logits.float(), 1)
        return functional.kl_div(log, clean, reduction='sum')

    noise = torch.empty_like(images).uniform_(-epsilon, epsilon)
    x = (images + noise).clamp(0, 1).requires_grad_()
    for _ in range(steps):
      x = ascend(loss, x, size)
    net.train()
    return x.detach() if steps else images

  def step():
    net.train()
    x = attack()
    with cast():
      logits = net(x)
      loss = functional.cross_entropy(logits.float(), labels)
      if case.method == 'trades-10':
        natural = net(images).float()
        loss = functional.cross_entropy(natural, labels)
        loss = loss + 6 * functional.kl_div(
          torch.log_softmax(logits.float(), 1),
          torch.softmax(natural, 1),
          reduction='batchmean',
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if cuda:
      torch.cuda.synchronize()

  return step


def _torch_time(case: Case) -> dict[str, Any]:
  """Times PyTorch alone."""
  import torch

  seconds = _medians({'': _torch_step(case)}, warm=3)['']
  peak = -1
  if torch.cuda.is_available():
    peak = round(torch.cuda.max_memory_allocated() / 2**20)
    torch.cuda.reset_peak_memory_stats()
  return {
    'pytorch': torch.__version__,
    **_row(case, seconds, peak_mib=peak),
  }


def _time_one(case: Case) -> None:
  """In a process of its own: compiles, waits for its turn, times."""
  prepared = prepare(case)
  print('compiled', flush=True)
  input()
  print(json.dumps(_time(case, prepared)), flush=True)


def _time_all(cases: dict[int, Case]) -> None:
  """Has every case timed, and prints what came of it."""
  limit = _TIMEOUT_S[_CPU.value]
  children = [
    subprocess.Popen(
      [sys.executable, *sys.argv, f'--case={i}'],
      env=os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    for i in cases
  ]
  with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
    try:
      lines = [pool.submit(child.stdout.readline) for child in children]
      concurrent.futures.wait(lines, _COMPILE_S.value)
      for child, line in zip(children, lines, strict=True):
        if not line.done():
          child.kill()
      for case, child, line in zip(
        cases.values(), children, lines, strict=True
      ):
        failed = {'step': case.name, 'dtype': case.dtype, 'batch': case.batch}
        if not line.result():
          row = failed | {'failed': f'not compiled in {_COMPILE_S.value:g} s'}
          print(json.dumps(row), flush=True)
          continue
        try:
          found, _ = child.communicate('\n', timeout=limit)
        except subprocess.TimeoutExpired:
          child.kill()
          found = ''
        row = failed | {'failed': f'no result after {limit} s'}
        print(found.strip() or json.dumps(row), flush=True)
    finally:
      for child in children:
        child.kill()


def chosen() -> list[Case]:
  """The cases that the flags name."""
  cases = _TINY_CASES if _TINY.value else _CPU_CASES if _CPU.value else _CASES
  return [case for case in cases if _ONLY.value in case.name]


def main(argv) -> None:
  """Prints a line of JSON for each case."""
  del argv
  cases = chosen()
  if _KEEP.value:
    host_memory.keep()
  if _CASE.value >= 0:
    _time_one(cases[_CASE.value])
  elif _TORCH.value:
    for case in cases:
      if not case.teacher and case.dispatch == 1:
        print(json.dumps(_torch_time(case)), flush=True)
  elif _CPU.value:
    for index, case in enumerate(cases):
      _time_all({index: case})
  else:
    _time_all(dict(enumerate(cases)))


if __name__ == '__main__':
  app.run(main)
