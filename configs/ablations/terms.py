"""Tables 7, 8 and 9: the terms of the objective, and what may stand for them.

Every row is searched with its own objective and trained with it (eqs. 2 and 4).
ICC are the intermediate cross-connections: the attention loss of eq. (1).
Table 7 prints for space S7 and the WRT-34 teacher, as trained and after further
training with eq. (6), in % (clean / PGD-20):

| objective     | argument      | as trained    | after eq. (6) | here        |
| ------------- | ------------- | ------------- | ------------- | ----------- |
| CE            | terms=ce      | 90.98 / 19.3  | 80.85 / 39.67 | not yet run |
| CE + KL       | terms=ce_kl   | 90.76 / 36.3  | 85.07 / 41.63 | not yet run |
| CE + ICC      | terms=ce_icc  | 90.33 / 35.54 | 82.45 / 41.03 | not yet run |
| CE + KL + ICC | terms=rnas_cl | 90.62 / 37.24 | 85.06 / 43.88 | not yet run |

Table 8 replaces the attention loss by a layer-wise KL divergence, and Table 9
the KL term by RKD or PKT (clean / PGD-20):

| argument           | s3            | s5            | s7            | here |
| ------------------ | ------------- | ------------- | ------------- | ---- |
| terms=rnas_cl      | 89.4 / 34.3   | 90.4 / 35.59  | 90.64 / 37.24 |      |
| terms=layerwise_kl | 90.21 / 33.05 | 90.77 / 35.39 | 90.97 / 36.22 |      |
| terms=pkt          | 89.92 / 34.61 | 90.65 / 35.61 | 91.13 / 36.63 |      |
| terms=rkd          | 89.79 / 36.25 | 90.25 / 36.97 | 91.17 / 37.58 |      |

An empty cell is not yet run; what digits gave is in docs/ablations.md. A
command for each table (hardware: one GPU; on digits minutes on a CPU), with
imported teachers as docs/teachers.md says:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/terms:table=7 \
    --set=teacher_wrn34:teacher.checkpoint=teachers/wrn34
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/terms:table=8
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/terms:table=9,data=digits

and for one row alone:

  rnascl pipeline \
    --config=ablations/terms:terms=ce_kl,space=s7 --workdir=DIR

What the paper does not print: weights of RKD and PKT, which are those of their
authors here; the maps whose divergence Table 8 takes, see
`distillation.map_log_probabilities`; and its weight, which is that of the
attention loss here, the sum with gamma = 1. On digits others were tried on seed
0, with accuracies in % of the 128 validation images, clean and under PGD-20:
0.1: 97.7, 37.5; 1: 98.4, 35.2; 10: 97.7, 33.6. So few images tell none from
another: 1 is kept.

`terms=ce` is the paper's "Standard", searched by cross-entropy times n_f(G). No
filter, weight or accuracy depends on a teacher. The commands need one to run
all the same: a network of four filters stands in, is trained for one epoch and
is not attacked. What architecture.json calls tutors there means nothing.
"""

from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files, settings
from rnascl_jax.sweeps import table_rows as rows

imagenet100 = config_files.shipped('imagenet100')
teacher = config_files.shipped('ablations/teacher')

# As little as the search will take; it learns nothing that is used.
_STAND_IN: dict[str, Any] = {
  'name': 'small_resnet',
  'features': (4,),
  'stage_sizes': (1,),
  'strides': (2,),
}
# Labels, and fields of search and student.
TERMS: dict[str, tuple[str, dict[str, Any]]] = {
  'ce': ('CE', {'kl_weight': 0.0, 'gamma': 0.0}),
  'ce_kl': ('CE + KL', {'gamma': 0.0}),
  'ce_icc': ('CE + ICC', {'kl_weight': 0.0}),
  'rnas_cl': ('RNAS-CL', {}),
  'layerwise_kl': (
    'RNAS-CL, layer-wise KL',
    {'layer_loss': 'layerwise_kl'},
  ),
  'pkt': ('RNAS-CL, PKT', {'method': 'pkt'}),
  'rkd': ('RNAS-CL, RKD', {'method': 'rkd'}),
}
_TABLES: dict[str, rows.Table] = {
  '7': (('s7',), (), ('ce', 'ce_kl', 'ce_icc', 'rnas_cl')),
  '8': (('s3', 's5', 's7'), (), ('rnas_cl', 'layerwise_kl')),
  '9': (('s3', 's5', 's7'), (), ('rnas_cl', 'pkt', 'rkd')),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config of one objective, for the search and the student.

  Args:
    argument: `terms=` (ce, ce_kl, ce_icc, rnas_cl, layerwise_kl, pkt, rkd),
      `adversarial=` (yes, or no to leave out eq. 6), `data=` (cifar10, digits,
      imagenet100), `space=` and `teacher=` (of the data's config), `smoke`,
      separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = arguments.parse(
    argument,
    {'terms': 'rnas_cl', 'adversarial': 'yes', 'data': 'cifar10'}
    | dict.fromkeys(('space', 'teacher', 'smoke'), ''),
  )
  name = arguments.pick(values, 'terms', TERMS)
  config = start(values)
  label, fields = TERMS[name]
  config.search.update(fields)
  student = config.students.rnas_cl
  student.update(fields, label=label)
  config.students = {name: student}
  _rename_fine_tuned(config, name, label)
  if arguments.pick(values, 'adversarial', ('yes', 'no')) == 'no':
    config.adversarial.students = {}
  config.evaluation.auto_attack_models = (name, *config.adversarial.students)
  if name != 'rnas_cl' or not config.adversarial.students:
    # Table 2 alone has AutoAttack.
    config.evaluation.auto_attack = config.evaluation.auto_attack_models = ()
  if name == 'ce':
    _without_teacher(config)
  return config


def compare(
  argument: str | None, students: dict[str, ml_collections.ConfigDict]
) -> ml_collections.ConfigDict:
  """Makes a config of these students, as trained, in place of RNAS-CL.

  Args:
    argument: `data=` (cifar10, digits), `space=`, `teacher=` and `smoke`.
    students: the students by name.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  config = start(arguments.parse(argument, teacher.ARGUMENTS))
  config.students = students
  teacher.leave_as_trained(config)
  return config


def start(values: dict[str, str]) -> ml_collections.ConfigDict:
  """RNAS-CL, as trained and after further training on attacks."""
  if values['data'] == 'imagenet100':
    names = ('space', 'teacher', 'smoke')
    return imagenet100.get_config(arguments.forward(values, *names))
  config = teacher.start(values)
  if values['data'] == 'digits':
    # What the tables have.
    config.evaluation.attacks = ('fgsm', 'pgd20_rnascl')
    config.evaluation.curve_attacks = ('pgd20_rnascl', 'fgsm')
    config.evaluation.auto_attack = ()
  return config


def _rename_fine_tuned(
  config: ml_collections.ConfigDict, name: str, label: str
) -> None:
  """'rnas_cl_eq6', RNAS-CL + eq. (6), becomes 'ce_eq6', CE + eq. (6)."""
  config.adversarial.students = {
    key.replace('rnas_cl', name): tuned
    for key, tuned in config.adversarial.students.items()
  }
  for tuned in config.adversarial.students.values():
    tuned.student = name
    tuned.label = tuned.label.replace('RNAS-CL', label)


def _without_teacher(config: ml_collections.ConfigDict) -> None:
  config.students.ce.teacher = ''
  teacher.without_attacks(config)
  config.teacher.label = 'Not used'
  config.teacher.checkpoint = ''
  config.teacher.network = settings.template().teacher.network
  config.teacher.network.update(_STAND_IN)
  config.teacher.optimization.epochs = 1
  config.evaluation.teachers = False


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Tables 7, 8 and 9.

  Args:
    argument: `table=` (7, 8, 9), all without it; `data=` (cifar10, digits);
      `space=` and `teacher=` in place of the paper's; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  return rows.tables(rows.parse(argument, *rows.ROBUST), _TABLES, rows.students)
