r"""What a search pays: accuracy and robustness against MACs and measured time.

A sweep over the exponent of the cost (0.5, 1, 2) and over what the cost is:
MACs, parameters, measured latency, or half MACs and half latency, see
docs/latency.md. Every row is RNAS-CL, searched with its cost and trained, not
fine-tuned. The sweep ends with `rnascl pareto`, which times the networks that
were found in turns in one process, and writes ROOT/pareto/: tables with the
front marked, and a picture.

  rnascl sweep --workdir=ROOT --seeds=0,1,2 --config=pareto:data=digits
  rnascl sweep --workdir=ROOT --seeds=0,1,2 --config=pareto:space=s3 \
    --set=teacher_wrn34:teacher.checkpoint=teachers/wrn34

`latency=` names the table of another device, which `rnascl latency` has made
there; without it that of an AMD EPYC is taken, wherever the sweep runs:

  rnascl sweep --workdir=ROOT --config=pareto:data=digits,latency=phone.json

Searches by latency and by MACs alone, three seeds of each:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 --config=pareto:data=digits \
    --only=digits_small_macs_1,digits_small_latency_1

Hardware: digits two minutes a row on two CPU cores, CIFAR-10 one GPU. Of digits
these two rows were run, see docs/latency.md; all others are not yet run.
"""

from rnascl_jax import sweeps
from rnascl_jax.config import arguments
from rnascl_jax.search import latency_tables
from rnascl_jax.sweeps import table_rows as rows

# What `rnascl sweep` runs at the end, of ROOT.
SUMMARY = 'pareto'
_EXPONENTS = (0.5, 1.0, 2.0)
# By the word in names of rows.
_COSTS = {
  'macs': 'macs',
  'parameters': 'parameters',
  'latency': 'latency:{table}',
  'both': '0.5*macs+0.5*latency:{table}',
}
_TABLES = {'digits': 'digits_cpu', 'cifar10': 's3_cpu'}


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes a row for each cost and exponent.

  Args:
    argument: `data=` (cifar10, digits); `space=` (s3, s5, s7; without it S3)
      and `teacher=`; `latency=`, a table of `rnascl latency`; `smoke`.

  Raises:
    ValueError: if a name, a value or the table is unknown.
  """
  names = {'data': 'cifar10'}
  names |= dict.fromkeys(('space', 'teacher', 'latency', 'smoke'), '')
  values = arguments.parse(argument, names)
  arguments.pick(values, 'data', _TABLES)
  table = values['latency'] or _TABLES[values['data']]
  device = latency_tables.read(table).device
  made = []
  for of in rows.combine(values, ('s3',)):
    made.append(rows.teacher(of))
    for word, cost in _COSTS.items():
      fields: dict[str, str] = {'cost': cost.format(table=table)}
      if 'latency' in cost:
        fields['cost_device'] = device
      made += [_row(of, word, fields, exponent) for exponent in _EXPONENTS]
  return rows.together(made)


def _row(
  of: rows.Setting,
  word: str,
  fields: dict[str, str],
  exponent: float,
) -> sweeps.Row:
  """RNAS-CL with a cost of its own in the search."""
  student = rows.student(of, fine_tuned=False)
  name = f'{of.name}_{word}_{exponent:g}'.replace('.', '_')
  own = {f'search.{field}': value for field, value in fields.items()}
  changes = {**student.changes, **own, 'search.flops_exponent': exponent}
  return sweeps.Row(name, student.config, changes, student.takes)
