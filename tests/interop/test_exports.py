"""Models written for runtimes without JAX: the same function, and its card."""

import collections
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax import attacks
from rnascl_jax.data import datasets
from rnascl_jax.interop import (
  attacked_images,
  export,
  model_card,
  portable,
  quantization,
  runtimes,
  usage,
)
from rnascl_jax.models import pretrained
from rnascl_jax.reporting import results
from tests import commands
from tests.interop import test_torch_export as models

_RUNTIMES = {
  'onnx': 'onnxruntime',
  'stablehlo': 'flatbuffers',
  'tflite': 'ai_edge_litert',
}
teacher = models.teacher


@pytest.fixture(params=_RUNTIMES)
def suffix(request) -> str:
  pytest.importorskip(_RUNTIMES[request.param])
  if request.param == 'tflite':
    pytest.importorskip('litert_converter')
  return request.param


@pytest.fixture(scope='module')
def students() -> dict[str, pretrained.Pretrained]:
  return {name: models._model(name) for name in models.OPTIONS}


def _images(count: int) -> np.ndarray:
  shape = (count, *models.SHAPE)
  return np.random.default_rng(1).random(shape, np.float32)


@pytest.mark.parametrize('name', models.OPTIONS)
def test_a_student_computes_the_same_in_its_runtime(
  name, suffix, students, tmp_path
):
  model, path = students[name], tmp_path / f'student.{suffix}'
  export.write(model, path)

  run, images = runtimes.load(path), _images(7)

  expected = np.asarray(jax.jit(model.logits_fn)(images))
  np.testing.assert_allclose(run(images), expected, rtol=0, atol=1e-5)
  np.testing.assert_allclose(run(images[:1]), expected[:1], rtol=0, atol=1e-5)


def test_a_teacher_computes_the_same_in_its_runtime(suffix, teacher, tmp_path):
  path = tmp_path / f'teacher.{suffix}'
  if suffix == 'onnx':
    with pytest.raises(ValueError, match='write it as .stablehlo or .tflite'):
      export.write(teacher, path)
    assert not path.exists()
    return
  export.write(teacher, path)

  assert runtimes.measure(teacher, path).difference < 1e-5


def test_files_are_compared_on_the_cpu_whose_products_are_exact(
  students, tmp_path
):
  pytest.importorskip('flatbuffers')
  model, path = students['pad'], tmp_path / 'student.stablehlo'
  export.write(model, path)
  platforms = []

  def logits_fn(images):
    platforms.append(jax.config.jax_default_device.platform)
    return model.logits_fn(images)

  runtimes.measure(model._replace(logits_fn=logits_fn), path)

  assert platforms == ['cpu']


def test_a_file_of_another_model_is_told(students, tmp_path):
  pytest.importorskip('onnxruntime')
  path = tmp_path / 'student.onnx'
  export.write(students['pad'], path)

  with pytest.raises(ArithmeticError, match='gives logits that differ by'):
    runtimes.measure(students['drop'], path)


def test_only_a_file_that_cannot_be_run_here_is_left_out(
  teacher, students, tmp_path, monkeypatch
):
  path = tmp_path / 'weights.safetensors'
  export.write(teacher, path)

  text = runtimes.table(runtimes.measure_all(teacher, [path]))

  assert 'was not run: the definition of the teacher is not here' in text

  def broken(path):
    raise ValueError('the runtime cannot read it')

  monkeypatch.setattr(runtimes, 'load', broken)
  with pytest.raises(ValueError, match='cannot read it'):
    runtimes.measure_all(students['pad'], [tmp_path / 'student.onnx'])


def test_images_that_fool_the_model_fool_the_file(suffix, students, tmp_path):
  model, path = students['gated'], tmp_path / f'student.{suffix}'
  export.write(model, path)
  run, images = runtimes.load(path), _images(32)
  labels = run(images).argmax(-1)

  adversarial = attacks.perturb(
    attacks.pgd,
    model.logits_fn,
    images,
    labels,
    epsilon=0.02,
    step_size=0.004,
    num_steps=10,
  )

  fooled = run(adversarial).argmax(-1) != labels
  logits = jax.jit(model.logits_fn)(adversarial)
  there = np.asarray(logits).argmax(-1) != labels
  np.testing.assert_array_equal(fooled, there)
  assert 3 < fooled.sum() < 32


@pytest.mark.parametrize('name', models.OPTIONS)
def test_a_convolution_and_its_batchnorm_are_one_operator_of_onnx(
  name, students, tmp_path
):
  onnx = pytest.importorskip('onnx')
  model, path = students[name], tmp_path / 'student.onnx'
  export.write(model, path)

  graph = onnx.load(path).graph

  params = model.variables['params']
  layers = jax.tree.leaves_with_path(params)
  kernels = [p for p, _ in layers if p[-1].key == 'kernel']
  count = collections.Counter(node.op_type for node in graph.node)
  assert count['Conv'] + count['Gemm'] == len(kernels)
  assert not count['BatchNormalization']
  groups = [
    attribute.i
    for node in graph.node
    if node.name.endswith('.depthwise')
    for attribute in node.attribute
    if attribute.name == 'group'
  ]
  widths = [
    block['depthwise']['kernel'].shape[-1]
    for key, block in params.items()
    if key.startswith('block')
  ]
  assert sorted(groups) == sorted(widths)


def test_onnx_has_what_the_model_is_inside(students, tmp_path):
  onnxruntime = pytest.importorskip('onnxruntime')
  path = tmp_path / 'student.onnx'
  export.write(students['pad'], path)

  session = onnxruntime.InferenceSession(path)

  texts = session.get_modelmeta().custom_metadata_map
  saved = {name: json.loads(text) for name, text in texts.items()}
  assert saved == students['pad'].metadata
  (pixels,), (logits,) = session.get_inputs(), session.get_outputs()
  assert (pixels.name, pixels.shape) == ('images', ['batch', 2, 8, 8])
  assert (logits.name, logits.shape) == ('logits', ['batch', 5])


def test_litert_has_what_the_model_is_inside(students, tmp_path):
  pytest.importorskip('litert_converter')
  schema = pytest.importorskip('ai_edge_litert.schema_py_generated')
  path = tmp_path / 'student.tflite'
  export.write(students['pad'], path)

  content = schema.Model.GetRootAs(path.read_bytes())

  file = schema.ModelT.InitFromObj(content)
  texts = {m.name: bytes(file.buffers[m.buffer].data) for m in file.metadata}
  saved = {
    name.decode(): json.loads(text)
    for name, text in texts.items()
    if name.decode() in students['pad'].metadata
  }
  assert saved == students['pad'].metadata


def test_what_litert_has_no_operator_for_is_refused(
  students, tmp_path, monkeypatch
):
  pytest.importorskip('litert_converter')

  def spectrum(images):
    return jnp.fft.fft2(images[..., 0]).real[:, 0]

  monkeypatch.setattr(portable, '_logits_fn', lambda model: spectrum)
  with pytest.raises(ValueError, match='no operator .* write it as .stablehlo'):
    export.write(next(iter(students.values())), tmp_path / 'student.tflite')
  assert not any(tmp_path.iterdir())


def test_int8_keeps_most_answers_and_what_the_model_is(students, tmp_path):
  pytest.importorskip('onnxruntime')
  onnx = pytest.importorskip('onnx')
  path, images = tmp_path / 'student.onnx', _images(64)
  export.write(students['pad'], path)

  quantized = quantization.write(path, images)

  assert quantized.name == 'student.int8.onnx'
  expected, logits = (runtimes.load(p)(images) for p in (path, quantized))
  assert (logits.argmax(-1) == expected.argmax(-1)).mean() > 0.9
  assert 1e-4 < np.abs(logits - expected).max() < 0.5
  model = onnx.load(quantized)
  texts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
  assert texts.pop('quantization')['calibration_images'] == 64
  assert texts == students['pad'].metadata
  assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == 'batch'
  # Every convolution reads int8 weights with a scale for each output channel.
  tensors = {tensor.name: tensor for tensor in model.graph.initializer}
  made_by = {node.output[0]: node for node in model.graph.node}
  for node in model.graph.node:
    if node.op_type == 'Conv':
      weight, scale, _ = made_by[node.input[1]].input
      assert tensors[weight].data_type == onnx.TensorProto.INT8
      assert tensors[scale].dims == tensors[weight].dims[:1]


def test_calibration_images_are_of_all_parts_of_a_split():
  images = np.repeat(np.arange(250, dtype=np.uint8), 8).reshape(-1, 1, 1, 1)

  spread = quantization.calibration_images(images)

  assert spread.shape == (512, 1, 1, 1) and spread.dtype == np.float32
  values = np.unique(np.round(spread * 255))
  assert (values.min(), values.max(), len(values)) == (0, 249, 250)


def test_the_printed_lines_run_the_file(suffix, students, tmp_path):
  model, path = students['pad'], tmp_path / f'student.{suffix}'
  export.write(model, path)
  images = _images(1)
  layout = images.transpose(0, 3, 1, 2) if suffix == 'onnx' else images
  names = {'images': layout}

  text = usage.text(model, path)

  exec('\n'.join(models._code(text)), names)
  expected = jax.jit(model.logits_fn)(images)
  np.testing.assert_allclose(names['logits'], expected, rtol=0, atol=1e-5)


def test_the_command_writes_formats_a_table_and_a_card(tiny_run, tmp_path):
  pytest.importorskip('onnxruntime')
  output = tmp_path / 'student'
  flags = f'--workdir={tiny_run}', f'--output={output}'

  code, text = commands.run('export', *flags, '--format=onnx,stablehlo')
  refusal, refused = commands.run('export', *flags, '--format=onx')

  assert code == 0, text
  kinds = {path.suffix for path in tmp_path.iterdir()}
  assert kinds == {'.onnx', '.stablehlo', '.json', '.md'}
  assert 'student.onnx' in text and 'One image' in text
  assert refusal != 0 and '--format=onx is unknown' in refused
  assert "Did you mean 'onnx'?" in refused


def test_int8_is_compared_on_the_images_that_were_attacked(tiny_run, tmp_path):
  pytest.importorskip('onnxruntime')
  flags = f'--workdir={tiny_run}', f'--output={tmp_path / "student"}', '--int8'

  code, text = commands.run('export', *flags, '--format=onnx')
  refusal, refused = commands.run('export', *flags, '--format=safetensors')

  assert code == 0, text
  card = json.loads((tmp_path / 'student.card.json').read_text())
  page = (tmp_path / 'student.card.md').read_text()
  assert card['class_names'] == list('0123456789')
  assert card['int8']['label'] == 'PGD-20 at 0.06275'
  (name, before), (int8, after) = card['int8']['files'].items()
  assert (name, int8) == ('student.onnx', 'student.int8.onnx')
  evaluation = results.load(tiny_run).evaluation('rnas_cl')
  for attack, kind in (('clean', 'clean'), ('pgd20', 'attacked')):
    assert before[kind] == evaluation.under(attack).accuracy
  for shares in (before, after):
    cells = [f'{100 * shares[kind]:.1f}' for kind in ('clean', 'attacked')]
    assert ' | '.join(cells) in page
    assert '  '.join(cells) in re.sub(' +', '  ', text)
  assert refusal != 0 and 'add onnx to --format' in refused
  assert not list(tmp_path.glob('*.safetensors'))


def test_a_run_of_another_version_is_named_before_int8(tiny_run):
  run = results.load(tiny_run)
  data = {k: v for k, v in run.config['data'].items() if k != 'flip'}
  older = dataclasses.replace(run, config={**run.config, 'data': data})
  with pytest.raises(ValueError, match=r'lacks flip.* without --int8'):
    attacked_images.saved_data(older)


def test_without_onnxruntime_int8_is_refused_and_says_what_installs_it(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)

  with pytest.raises(ImportError, match=r'int8 needs .*\[onnxruntime\]'):
    quantization.float_file([tmp_path / 'student.onnx'])


def test_a_name_of_int8_files_is_refused(students, tmp_path):
  with pytest.raises(ValueError, match='what --int8 writes'):
    export.write(students['pad'], tmp_path / 'student.int8.onnx')


@pytest.mark.slow  # It trains the demo, and installs from an index.
def test_onnxruntime_alone_classifies_as_the_student_of_the_demo(tmp_path):
  venv, folder = tmp_path / 'venv', tmp_path / 'run'
  subprocess.run([sys.executable, '-m', 'venv', venv], check=True)
  python = venv / 'bin' / 'python'
  subprocess.run(
    [python, '-m', 'pip', 'install', '--quiet', 'onnxruntime'], check=True
  )
  data = datasets.load('digits').test
  images = data.images.transpose(0, 3, 1, 2).astype(np.float32) / 255
  np.savez(tmp_path / 'test.npz', images=images, labels=data.labels)
  demo = '--config=digits', '--config.evaluation.auto_attack=()'
  # As its users run it: with all of XLA's passes, on one device.
  users = {**os.environ, 'XLA_FLAGS': '', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0'}
  formats = ','.join(
    name
    for name in export.FORMATS
    if importlib.util.find_spec(export.PACKAGES[f'.{name}'])
  )

  subprocess.run(
    [
      *(sys.executable, '-m', 'experiments.pipeline'),
      *(*demo, f'--workdir={folder}'),
    ],
    check=True,
    cwd=commands.ROOT,
    env=users,
  )
  code, text = commands.run(
    'export',
    f'--workdir={folder}',
    f'--format={formats}',
    f'--output={tmp_path / "student"}',
    '--int8',
  )
  assert code == 0 and text.count('was not run') == 0, text
  printed = subprocess.run(
    [python, '-I', '-c', _ALONE, tmp_path],
    check=True,
    text=True,
    capture_output=True,
  ).stdout

  correct, modules = printed.splitlines()
  clean = results.load(folder).evaluation('rnas_cl').under('clean')
  assert (int(correct), len(data.labels)) == (clean.correct, clean.images)
  assert modules == '[]'


_ALONE = """
import pathlib, sys
import numpy, onnxruntime
folder = pathlib.Path(sys.argv[1])
test = numpy.load(folder / 'test.npz')
session = onnxruntime.InferenceSession(folder / 'student.onnx')
(logits,) = session.run(None, {'images': test['images']})
print((logits.argmax(-1) == test['labels']).sum())
print([name for name in ('jax', 'rnascl_jax', 'onnx') if name in sys.modules])
"""


def test_all_formats_of_a_teacher_are_those_that_it_has(tiny_run, tmp_path):
  pytest.importorskip('litert_converter')
  output = tmp_path / 'teacher'
  flags = f'--workdir={tiny_run}', f'--output={output}', '--model=teacher'

  code, text = commands.run('export', *flags, '--format=all')

  assert code == 0, text
  kinds = {path.suffix for path in tmp_path.iterdir()}
  assert kinds == {'.safetensors', '.stablehlo', '.tflite', '.json', '.md'}


def test_a_card_has_what_the_run_saved(tiny_run):
  run = results.load(tiny_run)
  model = rnascl_jax.load(tiny_run, 'rnas_cl_eq6')

  card = model_card.make(run, 'rnas_cl_eq6', model)
  page = model_card.markdown(run, card)

  evaluation = run.evaluation('rnas_cl_eq6')
  assert [a['correct'] for a in card['accuracy']] == [
    a.correct for a in evaluation.attacks
  ]
  assert card['training']['method'] == 'trades'
  assert card['provenance']['command'] == run.provenance['command']
  for attack in evaluation.attacks:
    assert f'| {attack.label} |' in page
  assert '## Limits' in page and 'an upper bound' in page


@pytest.mark.parametrize('count', [3, 5])
def test_a_card_names_classes_that_are_the_logits_of_the_model(
  students, tmp_path, count
):
  names = ['ant', 'bee', 'cat', 'dog', 'elk'][:count]
  (tmp_path / 'data.json').write_text(json.dumps({'classes': names}))
  run = results.load(tmp_path)

  card = model_card.make(run, 'rnas_cl', students['pad'])

  assert card['class_names'] == (names if count == 5 else None)
  text = 'ant, bee, cat, dog, elk' if count == 5 else '0, 1, 2, 3, 4'
  assert f'5 classes ({text})' in model_card.markdown(run, card)


def test_a_card_of_a_model_that_was_not_evaluated_says_so(students, tmp_path):
  run = results.load(tmp_path)

  card = model_card.make(run, 'rnas_cl', students['pad'])

  assert card['accuracy'] == []
  assert 'Not evaluated.' in model_card.markdown(run, card)
